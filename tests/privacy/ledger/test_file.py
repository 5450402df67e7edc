"""The file: every change and every cut is found; what a crash leaves is told from what was cut."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import DataError
from primia_flwr.privacy.accounting.events import Gaussian
from primia_flwr.privacy.ledger.chain import parse
from primia_flwr.privacy.ledger.file import HEAD, LEDGER, Head, LedgerFile, read_head
from tests.privacy.ledgers import fill, open_ledger


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fill(folder)
    return folder


@contextmanager
def copy_of(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("copy") / "ledger"
    shutil.copytree(whole, folder)
    yield folder
    shutil.rmtree(folder)


def test_entries_are_numbered_chained_and_named_by_the_head(whole: Path) -> None:
    entries, unfinished = parse((whole / LEDGER).read_bytes(), whole / LEDGER)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.kind for entry in entries] == ["opened", "data", "charge", "charge", "charge"]
    assert entries[0].previous == "0" * 64
    assert [e.previous for e in entries[1:]] == [e.hash for e in entries[:-1]]
    assert read_head(whole) == Head(5, entries[-1].hash)
    assert unfinished == b""


def test_files_are_the_sites_alone(whole: Path) -> None:
    for name in (LEDGER, HEAD, "unit.key"):
        assert (whole / name).stat().st_mode & 0o077 == 0


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_changed_byte_is_found(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray((whole / LEDGER).read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    content[where] ^= data.draw(st.integers(1, 255))
    with copy_of(whole, tmp_path_factory) as folder:
        (folder / LEDGER).write_bytes(content)
        for writing in (True, False):
            with pytest.raises(DataError, match=r"ledger\.jsonl.*expected"):
                LedgerFile(folder, read_only=not writing)
        assert (folder / LEDGER).read_bytes() == content, "nothing is mended by guessing"


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_cut_is_found(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = (whole / LEDGER).read_bytes()
    length = data.draw(st.integers(0, len(content) - 1))
    with copy_of(whole, tmp_path_factory) as folder:
        (folder / LEDGER).write_bytes(content[:length])
        for writing in (True, False):
            with pytest.raises(DataError, match="was cut off or damaged"):
                LedgerFile(folder, read_only=not writing)


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4])
def test_every_cut_at_a_line_is_found_without_the_head_of_the_newest(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, kept: int
) -> None:
    lines = (whole / LEDGER).read_bytes().splitlines(keepends=True)
    with copy_of(whole, tmp_path_factory) as folder:
        (folder / LEDGER).write_bytes(b"".join(lines[:kept]))
        with pytest.raises(DataError, match=rf"ends at entry {kept}; expected entry 5"):
            open_ledger(folder)


@pytest.mark.parametrize("victim", range(5))
def test_removed_swapped_and_repeated_lines_are_found(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, victim: int
) -> None:
    lines = (whole / LEDGER).read_bytes().splitlines(keepends=True)
    removed = lines[:victim] + lines[victim + 1 :]
    swapped = lines.copy()
    swapped[victim], swapped[victim - 1] = swapped[victim - 1], swapped[victim]
    repeated = lines[: victim + 1] + lines[victim:]
    for changed in (removed, swapped, repeated):
        with copy_of(whole, tmp_path_factory) as folder:
            (folder / LEDGER).write_bytes(b"".join(changed))
            with pytest.raises(DataError, match="expected"):
                open_ledger(folder)


def test_the_same_words_written_otherwise_are_found(
    whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = (whole / LEDGER).read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]))
    with copy_of(whole, tmp_path_factory) as folder:
        (folder / LEDGER).write_text("\n".join(lines) + "\n")
        with pytest.raises(DataError, match="line 3 was changed"):
            open_ledger(folder)


def test_missing_or_damaged_head_is_refused(
    whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with copy_of(whole, tmp_path_factory) as folder:
        (folder / HEAD).unlink()
        with pytest.raises(DataError, match=r"head\.json is missing"):
            open_ledger(folder)
    for content in (b"", b"[]", b'{"seq": "5", "hash": ""}', b'{"seq": 5}', b"\xff"):
        with copy_of(whole, tmp_path_factory) as folder:
            (folder / HEAD).write_bytes(content)
            with pytest.raises(DataError, match=r"head\.json cannot be read"):
                open_ledger(folder)


def test_head_of_another_ledger_is_refused(
    whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with copy_of(whole, tmp_path_factory) as folder:
        (folder / HEAD).write_text(json.dumps({"seq": 5, "hash": "0" * 64}))
        with pytest.raises(DataError, match="do not belong together"):
            open_ledger(folder)
    with copy_of(whole, tmp_path_factory) as folder:
        entries, _ = parse((whole / LEDGER).read_bytes(), whole / LEDGER)
        (folder / HEAD).write_text(json.dumps({"seq": 3, "hash": entries[2].hash}))
        with pytest.raises(DataError, match="do not belong together"):
            open_ledger(folder)


def test_unfinished_line_is_cut_off_and_noted(
    whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with copy_of(whole, tmp_path_factory) as folder:
        with (folder / LEDGER).open("ab") as stream:
            stream.write(b'{"body":{"cei')
        reader = LedgerFile(folder, read_only=True)
        assert (len(reader.entries), reader.unfinished) == (5, b'{"body":{"cei')
        reader.close()
        with open_ledger(folder) as ledger:
            assert ledger.head().seq == 6
            assert len(ledger.charges()) == 3
        entries, unfinished = parse((folder / LEDGER).read_bytes(), folder / LEDGER)
        assert (entries[-1].kind, entries[-1].body["bytes"], unfinished) == ("repaired", 13, b"")


def test_whole_line_that_the_head_does_not_name_yet_counts(
    whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with copy_of(whole, tmp_path_factory) as folder:
        before = (folder / HEAD).read_bytes()
        with open_ledger(folder) as ledger:
            version = ledger.charges()[0].version
            ledger.charge(
                version, run="r", instance=9, request=b"", event=ledger.charges()[0].event, what="x"
            )
        (folder / HEAD).write_bytes(before)
        with open_ledger(folder) as ledger:
            assert ledger.charges()[-1].instance == 9
        assert read_head(folder) is not None
        assert read_head(folder).seq == 6  # type: ignore[union-attr]


def test_clock_that_went_back_is_refused(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    with open_ledger(tmp_path, clock=lambda: now) as ledger:
        ledger.register(["anna"])
    with (
        open_ledger(tmp_path, clock=lambda: now - 3600) as ledger,
        pytest.raises(DataError, match="the clock says 2027-01-15T07:00:00"),
    ):
        ledger.register(["ben"])
    with open_ledger(tmp_path, clock=lambda: now - 1) as ledger:
        ledger.register(["ben"])  # what a time server may take back
    entries, _ = parse((tmp_path / LEDGER).read_bytes(), tmp_path / LEDGER)
    assert entries[1].time == entries[2].time


def test_second_process_waits_then_is_refused(tmp_path: Path) -> None:
    with open_ledger(tmp_path):
        for reading in (True, False):
            with pytest.raises(DataError, match=r"in use by another process for 0\.1 s"):
                LedgerFile(tmp_path, read_only=reading, wait=0.1)
    open_ledger(tmp_path).close()


def _charge_ten(folder: Path, run: str) -> None:
    for number in range(10):
        with open_ledger(folder, wait=30.0, ceiling=None) as ledger:
            version = ledger.register(["anna"])
            event = ledger.charges()[0].event
            ledger.charge(version, run=run, instance=number, request=b"", event=event, what="x")


def test_two_processes_are_charged_one_after_the_other(tmp_path: Path) -> None:
    fill(tmp_path, rounds=1, patients=["anna"])
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_charge_ten, args=(tmp_path, run)) for run in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    with open_ledger(tmp_path) as ledger:
        assert len(ledger.charges()) == 21
        assert {c.run for c in ledger.charges()} == {"run-1", "a", "b"}
        spent = ledger.spent(ledger.charges()[0].version)
    # 21 equal Gaussians are one with sigma / sqrt(21)
    with open_ledger(tmp_path / "other") as ledger:
        version = ledger.register(["anna"])
        one = Gaussian(noise_multiplier=20.0 / 21**0.5)
        assert ledger.afford(version, run="r", events=[one]) == pytest.approx(spent)


def test_nothing_is_appended_after_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    with open_ledger(tmp_path) as ledger:
        version = ledger.charges()[0].version

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(DataError, match="No space left on device"):
                ledger.charge(
                    version, run="r", instance=1, request=b"", event=ledger.charges()[0].event,
                    what="x",
                )  # fmt: skip
        with pytest.raises(DataError, match="open the ledger anew"):
            ledger.register(["new patient"])


def test_folder_without_ledger_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        LedgerFile(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_foreign_lines_are_refused(tmp_path: Path) -> None:
    """Well chained, and yet nothing that a ledger writes."""
    for body in (b"[]", b"{}", b"3", b"null", b'"' + b"9" * 5000 + b'"', b"[" * 5000, b"NaN"):
        for content in (body, b'{"seq":1,"previous":"","time":1,"nonce":"","kind":"","body":%s}'):
            (tmp_path / LEDGER).write_bytes(content.replace(b"%s", body) + b"\n")
            with pytest.raises(DataError, match="line 1 was changed"):
                LedgerFile(tmp_path)
