"""What all provisioning shares: a new folder that appears whole or not at all, and zipped kits."""

import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import write_private
from primia_flwr.storage.atomic import atomic_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def check_name(key: str, value: str) -> None:
    """Refuse a name that cannot name a folder, a party and a certificate.

    Raises
    ------
    FederationError
        If it has other characters, or not 1 to 32 of them.
    """
    if not _NAME.fullmatch(value):
        raise FederationError(
            f"{key}={value!r}; expected 1 to 32 letters, digits, '-' or '_', e.g. munich"
        )


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield a private folder to fill, which becomes `output` at the end, or is deleted.

    Raises
    ------
    FederationError
        If something is there already (nothing is overwritten).
    """
    if output.exists():
        raise FederationError(
            f"output={output} exists; expected a folder that does not exist yet, since keys are "
            "never overwritten; choose another name= or output="
        )
    with atomic_folder(output, mode=0o700) as building:
        yield building


def zip_kit(kit: Path) -> None:
    """Write `<kit>.zip`, private like the keys in it; the files keep their modes."""
    target = kit.with_suffix(".zip")
    write_private(target, b"")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(kit.iterdir()):
            entry = zipfile.ZipInfo.from_file(file, f"{kit.name}/{file.name}")
            mode = stat.S_IMODE(file.stat().st_mode)
            entry.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
