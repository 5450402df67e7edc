"""Flower's command-line programs, by paths that work.

Two parts of Flower and Ray break where the environment's path has a space: Ray starts its
workers with `bash -c "exec <python> ..."` without quotes (ray/_private/runtime_env/context.py),
and Flower joins the folders of its database migrations with spaces
(flwr/supercore/state/alembic/utils.py). There, the programs run from a stand-in of the
environment in a temporary folder: links to all its packages, and a copy of Flower.
"""

import atexit
import functools
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from primia_flwr.errors import FederationError

# For sh: start Python on this file. For Python: two strings that nobody uses. (As pip does it.)
_HEAD = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
"""


def flower_program(name: str) -> str:
    """Return the path of a program of the Flower that this environment has.

    Raises
    ------
    FederationError
        If it is not there.
    """
    program = programs_folder() / name
    if not program.is_file():
        raise FederationError(f"{program} not found; expected Flower beside Python; install flwr")
    return str(program)


def programs_folder() -> Path:
    """Return the folder of Flower's programs; a temporary one where the environment has a space."""
    installed = Path(sysconfig.get_path("scripts"))
    return _temporary(installed) if " " in str(installed) else installed


@functools.cache
def _temporary(installed: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="primia-programs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_stand_in(installed, folder)


def make_stand_in(installed: Path, folder: Path) -> Path:
    """Make an environment in `folder` that has what this one has; return its programs' folder."""
    prefix, packages = Path(sys.prefix), Path(sysconfig.get_path("purelib"))
    programs = folder / installed.relative_to(prefix)
    programs.mkdir()
    python = programs / "python"
    python.symlink_to(Path(sys.executable).resolve())
    shutil.copy(prefix / "pyvenv.cfg", folder)
    for script in [*installed.glob("flwr*"), *installed.glob("flower-*")]:
        program = programs / script.name
        program.write_text(_HEAD.format(python=python) + script.read_text().partition("\n")[2])
        program.chmod(0o700)
    linked = folder / packages.relative_to(prefix)
    linked.mkdir(parents=True)
    for package in packages.iterdir():
        if package.name != "flwr":
            (linked / package.name).symlink_to(package)
    shutil.copytree(packages / "flwr", linked / "flwr")
    return programs
