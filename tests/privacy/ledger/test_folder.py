"""Old, cut and re-begun ledgers in a folder whose other files remember more: all are refused.

The case that began it: the ledger cut to its first line, head.json deleted, all else left.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger.chain import parse
from primia_flwr.privacy.ledger.file import HEAD, LEDGER
from primia_flwr.privacy.ledger.view import read_ledger
from tests.privacy.ledgers import PATIENTS, charge, fill, open_ledger

LINES = 5  # opened, data, three charges


def cut(folder: Path, kept: int) -> None:
    """Keep so many lines of the ledger."""
    lines = (folder / LEDGER).read_bytes().splitlines(keepends=True)
    (folder / LEDGER).write_bytes(b"".join(lines[:kept]))


def rewrite_head(folder: Path, seq: int) -> None:
    """Write the head of an older state."""
    entries, _ = parse((folder / LEDGER).read_bytes(), folder / LEDGER)
    digest = entries[seq - 1].hash if seq else "0" * 64
    (folder / HEAD).write_text(json.dumps({"hash": digest, "seq": seq}, sort_keys=True) + "\n")


def remove(*names: str) -> Callable[[Path], None]:
    """Remove files and folders."""

    def act(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return act


def rebegun(folder: Path) -> None:
    """Put the ledger, the head and the key of a new one in place of the old ones."""
    new = folder.parent / "new"
    fill(new, rounds=1, patients=["dan"])
    for name in (LEDGER, HEAD, "unit.key"):
        shutil.copy(new / name, folder / name)


ATTACKS: dict[str, Callable[[Path], object]] = {
    "cut to the first line, no head": lambda f: (cut(f, 1), remove(HEAD)(f)),
    "cut to the first line, old head": lambda f: (rewrite_head(f, 1), cut(f, 1)),
    "cut to the first line, head before it": lambda f: (rewrite_head(f, 0), cut(f, 1)),
    "the same without releases": lambda f: (
        rewrite_head(f, 1), cut(f, 1), remove("releases")(f)
    ),
    "the same without data": lambda f: (rewrite_head(f, 1), cut(f, 1), remove("data")(f)),
    "first line and key alone, no head": lambda f: (
        cut(f, 1), remove(HEAD, "data", "releases")(f)
    ),
    "first line and key alone, empty head": lambda f: (
        rewrite_head(f, 0), cut(f, 1), remove("data", "releases")(f)
    ),
    "one charge less, old head": lambda f: (rewrite_head(f, 4), cut(f, 4)),
    "one charge less, old head, no releases": lambda f: (
        rewrite_head(f, 4), cut(f, 4), remove("releases")(f)
    ),
    "one charge less, old head, no data": lambda f: (
        rewrite_head(f, 4), cut(f, 4), shutil.rmtree(f / "data")
    ),
    "all charges cut, old head": lambda f: (rewrite_head(f, 2), cut(f, 2)),
    "emptied": lambda f: cut(f, 0),
    "emptied, no head": lambda f: (cut(f, 0), remove(HEAD)(f)),
    "deleted": remove(LEDGER),
    "only data left": remove(LEDGER, HEAD, "unit.key", "releases"),
    "only releases left": remove(LEDGER, HEAD, "unit.key", "data"),
    "only the key left": remove(LEDGER, HEAD, "data", "releases"),
    "only the head left": remove(LEDGER, "unit.key", "data", "releases"),
    "begun anew": rebegun,
    "begun anew without releases": lambda f: (rebegun(f), remove("releases")(f)),
    "begun anew without data": lambda f: (rebegun(f), remove("data")(f)),
    "key lost": remove("unit.key"),
    "head lost": remove(HEAD),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_the_rest_of_the_folder_contradicts_is_refused(attack: str, tmp_path: Path) -> None:
    folder = tmp_path / "privacy"
    fill(folder, rounds=3)
    ATTACKS[attack](folder)
    left = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for _ in range(2):  # what is refused once is refused again
        with pytest.raises(DataError, match=r"expected|keep the folder as it is"):
            open_ledger(folder)
    if attack != "key lost":
        with pytest.raises(DataError):
            read_ledger(folder)
    left.setdefault(folder / LEDGER, b"")  # made to be locked
    assert left == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_ledger_without_kept_outputs_is_witnessed_too(tmp_path: Path) -> None:
    """In `dp_aggregate` nothing is kept, and the data stays the same from charge to charge."""
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        charge(ledger, version, instance=1)
    shutil.copy(tmp_path / LEDGER, tmp_path / "old")
    shutil.copy(tmp_path / HEAD, tmp_path / "old-head")
    with open_ledger(tmp_path) as ledger:
        charge(ledger, version, instance=2)
    (tmp_path / "old").rename(tmp_path / LEDGER)
    (tmp_path / "old-head").rename(tmp_path / HEAD)
    with pytest.raises(DataError, match=r"4-[0-9a-f]{64}\.newest was left by no entry"):
        open_ledger(tmp_path)


@pytest.mark.parametrize("where", ["data", "releases"])
@pytest.mark.parametrize(
    "name",
    [
        "a.txt", "9.release", "1.release", "0.release", f"3-{'0' * 64}.release", "3.newest",
        f"{'0' * 64}.units", "99999999999999999999.release", f"1-{'0' * 64}.newest", "folder",
    ],
)  # fmt: skip
def test_a_file_that_no_entry_left_is_named(where: str, name: str, tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / where / name).mkdir()
    with pytest.raises(DataError, match=f"{name} was left by no entry"):
        open_ledger(tmp_path)


def test_a_whole_folder_that_nobody_touched_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, rounds=6)
    (tmp_path / "data" / ".DS_Store").touch()  # what a file manager leaves
    with open_ledger(tmp_path) as ledger:
        charge(ledger, ledger.register([*PATIENTS, "dan"]), run="next")
    shutil.copytree(tmp_path, tmp_path.parent / "moved")
    with open_ledger(tmp_path.parent / "moved") as ledger:
        assert len(ledger.charges()) == 7


def test_a_folder_as_older_versions_left_it_goes_on(tmp_path: Path) -> None:
    """Without witnesses, and outputs under the number of their charge alone."""
    fill(tmp_path, rounds=3)
    for file in tmp_path.rglob("*.newest"):
        file.unlink()
    for file in (tmp_path / "releases").glob("*.release"):
        file.rename(file.with_name(f"{file.name.partition('-')[0]}.release"))
    with open_ledger(tmp_path) as ledger:
        kept = ledger.stored(run="run-1", instance=3, request=b"model 1")
        assert kept == b"noise 3"
        ledger.store(charge(ledger, ledger.charges()[0].version, instance=4), b"noise 4")
        assert ledger.stored(run="run-1", instance=1, request=b"model 1") is None, "dropped"
    rewrite_head(tmp_path, 4)
    cut(tmp_path, 4)
    with pytest.raises(DataError, match="was left by no entry"):
        open_ledger(tmp_path)


def test_a_version_that_a_crash_left_pending_is_no_contradiction(tmp_path: Path) -> None:
    fill(tmp_path)
    (version,) = (tmp_path / "data").glob("*.units")
    version.rename(version.with_name(f"{version.name}.pending"))  # crashed after its entry
    (tmp_path / "data" / f"{'0' * 64}.units.pending").touch()  # crashed before it
    with read_ledger(tmp_path) as ledger:
        ledger.verify_data()
    with open_ledger(tmp_path) as ledger:
        ledger.verify_data()
    assert [file.name for file in (tmp_path / "data").glob("*.units*")] == [version.name]
