from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONDONTWRITEBYTECODE"] = ""

import pytest
from absl.logging import PythonHandler
from hypothesis import settings

from primia_flwr.processes.programs import make_stand_in
from tests.remembered import remember

remember()

# What is compiled is kept, whatever the shell says: else each process compiles the product anew.
sys.dont_write_bytecode = False

# Hydra closes every handler before a sweep, and absl's would close what pytest captures with.
PythonHandler.close = logging.StreamHandler.close

# What a net's gradients lay in is kept for the next ones: a page given back costs a fault again.
_KEEP = {-3: 1 << 30, -1: 1 << 30}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD in bytes
for _parameter, _value in _KEEP.items() if hasattr(ctypes.CDLL(None), "mallopt") else ():
    ctypes.CDLL(None).mallopt(_parameter, _value)

# No test cuts the power: nothing here waits for the disk. A descriptor that is none stays an error.
os.fsync = os.fstat  # type: ignore[assignment]

# Temporary folders lie in memory where there is room and programs may start: a disk has a file
# that replaces another one written first, whoever waits.
_MEMORY, _ROOM = Path("/dev/shm"), 8 << 30  # bytes; a whole run leaves some hundred MB
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK):
    _found = os.statvfs(_MEMORY)
    if _found.f_bavail * _found.f_frsize > _ROOM and not _found.f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# A slow machine is no failure: no example of a property is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


# Long files first: no core waits for the other one's last file, and what measures time comes when
# no federation runs beside it.
LONG = (
    *("tests/e2e/", "tests/flower/", "tests/inference/service/", "tests/cli/inference/"),
    *("tests/docs/test_tutorial.py", "tests/privacy/", "tests/security/", "tests/site/bundle/"),
    *("tests/strategies/aggregators/", "tests/strategies/fedsearch/", "tests/tasks/masks/"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """Keep what was imported out of the garbage collector's rounds, and those rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def stand_in_with_a_space(place: Path) -> Path:
    """Make an environment like this one whose path has a space; return its Python."""
    folder = place / "a b"
    folder.mkdir()
    return make_stand_in(Path(sysconfig.get_path("scripts")), folder) / "python"


@pytest.fixture
def environment_with_a_space(tmp_path: Path) -> Path:
    """Return the Python of an environment like this one whose path has a space."""
    return stand_in_with_a_space(tmp_path)


@pytest.fixture(scope="session")
def make_run_folder() -> Callable[..., Path]:
    """Make an output folder as a run leaves it, with invented but consistent figures."""
    from tests.reporting import run_folder_maker

    return run_folder_maker.make_run_folder
