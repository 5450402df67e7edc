"""Lines are whole and on the disk or not there: full disks, killed processes, several writers."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial
from pathlib import Path

import pytest

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.state.journal import Journal
from primia_flwr.site.log import SiteLog
from primia_flwr.storage.journal import JournalFile, append_line
from tests.faults.full_disk import full_disk
from tests.faults.killed import run_killed


def append(path: Path, line: bytes) -> None:
    with JournalFile(path) as journal:
        journal.append(line)


def test_a_line_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    append(tmp_path / "log", b"one\n")
    with full_disk(7), pytest.raises(OSError, match="File too large"):
        append(tmp_path / "log", b"another\n")
    append(tmp_path / "log", b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_a_line_that_cannot_be_flushed_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path / "log", b"one\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        append(tmp_path / "log", b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"


def test_killed_at_any_call_there_is_the_line_or_half_of_it_at_the_end(tmp_path: Path) -> None:
    calls, found = 0, []
    while True:
        path = tmp_path / str(calls)
        path.write_bytes(b"one\n")
        killed = run_killed(partial(append, path, b"another\n"), calls)
        found.append(path.read_bytes().removeprefix(b"one\n"))
        if not killed:
            break
        calls += 1
    assert set(found) == {b"", b"anot", b"another\n"}
    assert found[-1] == b"another\n"


def test_half_a_last_line_can_be_told_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthr")
    with JournalFile(path) as journal:
        assert list(journal.lines()) == [b"one\n", b"two\n", b"thr"]
        assert list(journal.lines(4)) == [b"two\n", b"thr"]
        assert journal.last() == b"thr"
        journal.cut_off(journal.size - 3)
        assert journal.last() == b"two\n"
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 70_000])
@pytest.mark.parametrize("before", [b"", b"\n", b"first\n", b"x" * 5000 + b"\n"])
def test_the_last_line_of_any_length_is_found_from_the_end(
    tmp_path: Path, before: bytes, length: int
) -> None:
    last = b"y" * (length - 1) + b"\n"
    (tmp_path / "log").write_bytes(before + last)
    with JournalFile(tmp_path / "log", read_only=True) as journal:
        assert journal.last() == last
    (tmp_path / "log").write_bytes(b"")
    with JournalFile(tmp_path / "log", read_only=True) as journal:
        assert journal.last() == b""


def test_append_line_ends_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append_line(path, b"one")
    path.write_bytes(path.read_bytes() + b"tw")
    append_line(path, b"three")
    assert path.read_bytes() == b"one\ntw\nthree\n"


def test_a_reader_makes_no_file_and_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JournalFile(tmp_path / "log", read_only=True)
    assert list(tmp_path.iterdir()) == []
    os.mkfifo(tmp_path / "pipe")
    for read_only in (True, False):
        with pytest.raises(OSError, match="it is no regular file"):
            JournalFile(tmp_path / "pipe", read_only=read_only)
        with pytest.raises(OSError, match=r"it is no regular file|Is a directory"):
            JournalFile(tmp_path, read_only=read_only)


def test_one_writer_or_several_readers_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with JournalFile(path):
        for read_only in (True, False):
            with pytest.raises(TimeoutError):
                JournalFile(path, read_only=read_only, wait=0.0)
    with (
        JournalFile(path, read_only=True),
        JournalFile(path, read_only=True, wait=0.0),
        pytest.raises(TimeoutError),
    ):
        JournalFile(path, wait=0.06)
    JournalFile(path, wait=0.0).close()


def _append_many(path: Path, letter: bytes) -> None:
    for _ in range(50):
        append_line(path, letter * 100)


def test_two_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_append_many, args=(tmp_path / "log", letter))
        for letter in (b"a", b"b")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert sorted(lines) == [b"a" * 100] * 50 + [b"b" * 100] * 50


def test_a_new_journal_is_private_and_its_name_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: flushed.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
    )
    append(tmp_path / "log", b"one\n")
    append(tmp_path / "log", b"two\n")
    assert flushed == ["log", tmp_path.name, "log"]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_the_sites_log_goes_on_after_a_full_disk(tmp_path: Path) -> None:
    log = SiteLog(tmp_path / "log")
    log.append("request", run="1")
    with (
        full_disk((tmp_path / "log").stat().st_size + 20),
        pytest.raises(OSError, match="File too large"),
    ):
        log.append("accepted", run="1")
    log.append("left", run="1")
    assert [entry.event for entry in SiteLog(tmp_path / "log").entries()] == ["request", "left"]


def test_a_sites_answers_go_on_after_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "answered.jsonl"
    journal = Journal(path)
    journal.record([b"\xaa"], ["a", "b", "c"])
    with full_disk(path.stat().st_size + 20), pytest.raises(ProtocolError, match="expected a writ"):
        journal.record([b"\xbb"], ["a", "b", "c"])
    journal.record([b"\xcc"], ["a", "b", "c"])
    again = Journal(path)
    for base in (b"\xaa", b"\xcc"):
        with pytest.raises(ProtocolError):
            again.check([base], ["a", "b"])
    again.check([b"\xbb"], ["a", "b"])  # for it nothing left the house


def test_half_a_last_answer_is_cut_off_and_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answered.jsonl"
    Journal(path).record([b"\xaa"], ["a", "b", "c"])
    whole = path.read_bytes()
    path.write_bytes(whole + whole.replace(b"aa", b"bb")[:-1])
    Journal(path).check([b"\xbb"], ["a", "b"])
    assert path.read_bytes() == whole
