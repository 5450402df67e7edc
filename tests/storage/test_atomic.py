"""Whole or absent, and on the disk: files and folders, on a full disk and in a killed process."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import (
    PRIVATE,
    atomic_folder,
    make_folder,
    write_atomic,
    write_result,
    write_together,
    writing,
)
from tests.faults.full_disk import full_disk
from tests.faults.killed import run_killed

OLD, NEW = b"old content", b"new content, which is longer"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order."""
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        sync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        done.append(f"rename to {target.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    return done


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_is_flushed_then_renamed_then_its_folder_is_flushed(
    tmp_path: Path, steps: list[str]
) -> None:
    write_atomic(tmp_path / "a", NEW)
    assert steps[0].startswith("sync .a.")
    assert steps[1:] == ["rename to a", f"sync {tmp_path.name}"]


def test_bytes_and_texts_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content, expected in ((OLD, OLD), ("ä\r\n", b"\xc3\xa4\r\n"), (b"", b"")):
        write_atomic(path, content)
        assert path.read_bytes() == expected
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("umask", "mode", "expected"),
    [
        (0o022, None, 0o644),
        (0o077, None, 0o600),
        (0o022, PRIVATE, 0o600),
        (0o077, 0o664, 0o664),
    ],
)
def test_the_mode_is_the_given_one_or_what_the_umask_says(
    tmp_path: Path, umask: int, mode: int | None, expected: int
) -> None:
    (tmp_path / "a").touch(mode=0o640)
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a", NEW, mode=mode)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a") == expected


def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", OLD)
    with full_disk(len(OLD)), pytest.raises(OSError, match="File too large"):
        write_atomic(tmp_path / "a", NEW)
    assert (tmp_path / "a").read_bytes() == OLD
    assert names(tmp_path) == ["a"]


def test_killed_at_any_call_a_reader_finds_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path, calls, seen = tmp_path / "a", 0, []
    while True:
        path.write_bytes(OLD)
        killed = run_killed(partial(write_atomic, path, NEW), calls)
        seen.append(path.read_bytes())
        if not killed:
            break
        calls += 1
    assert calls >= 6, "open, write, fsync, close, replace, and the folder's three"
    assert seen == sorted(seen, key=[OLD, NEW].index), "once there, it stays"
    assert (seen[0], seen[-1]) == (OLD, NEW)
    write_atomic(path, OLD)  # drafts that lie there are in nobody's way
    assert path.read_bytes() == OLD


class Full:
    """A disk that is full after so many flushes."""

    def __init__(self, flushes: int) -> None:
        self._left = flushes

    def __call__(self, descriptor: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError(28, "No space left on device")


def test_of_several_files_none_is_replaced_before_all_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_together({tmp_path / "a": OLD, tmp_path / "b": OLD})
    for failing in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", Full(failing))
            with pytest.raises(OSError, match="No space left"):
                write_together({tmp_path / "a": NEW, tmp_path / "b": NEW})
        assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [OLD, OLD]
    write_together({tmp_path / "a": NEW, tmp_path / "b": NEW})
    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [NEW, NEW]


def fill(target: Path, meanwhile: Callable[[], object] = bool) -> None:
    with atomic_folder(target) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "a").write_bytes(NEW)
        (draft / "b").write_bytes(NEW)
        meanwhile()


def test_a_folder_is_flushed_from_the_inside_out_then_renamed(
    tmp_path: Path, steps: list[str]
) -> None:
    fill(tmp_path / "folder")
    assert steps[:3] == ["sync a", "sync inner", "sync b"]
    assert steps[3].startswith("sync .folder.")
    assert steps[4:] == ["rename to folder", f"sync {tmp_path.name}"]
    assert (tmp_path / "folder" / "inner" / "a").read_bytes() == NEW


def test_killed_at_any_call_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    calls = 0
    while True:
        target = tmp_path / str(calls) / "folder"
        killed = run_killed(partial(fill, target), calls)
        if target.exists():
            assert names(target) == ["b", "inner"]
            assert (target / "inner" / "a").read_bytes() == (target / "b").read_bytes() == NEW
        if not killed:
            break
        calls += 1
    assert calls >= 10
    assert not (tmp_path / "0" / "folder").exists()
    assert target.exists()


def fail() -> None:
    raise ZeroDivisionError


def test_a_block_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fill(tmp_path / "folder", meanwhile=fail)
    assert names(tmp_path) == []


def test_a_folder_that_has_come_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="folder exists"):
        fill(tmp_path / "folder", meanwhile=partial(os.makedirs, tmp_path / "folder" / "theirs"))
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["theirs"]


def test_a_private_folder_is_never_open_to_others(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder", mode=0o700) as draft:
        assert mode_of(draft) == 0o700
    assert mode_of(tmp_path / "folder") == 0o700
    make_folder(tmp_path / "x" / "y")
    assert [mode_of(tmp_path / "x"), mode_of(tmp_path / "x" / "y")] == [0o700, 0o700]


def test_what_cannot_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_result(tmp_path / "gone" / "a", "text")
    assert str(caught.value) == (
        f"{tmp_path}/gone/a cannot be written (No such file or directory); expected a writable "
        "folder with free space"
    )
    with pytest.raises(KeyError), writing("it", error=DataError, remedy="none"):
        raise KeyError("another error stays what it is")


def test_a_result_is_a_text_or_an_object(tmp_path: Path) -> None:
    write_result(tmp_path / "a", "text\n")
    write_result(tmp_path / "b", {"epsilon": 1.5})
    assert (tmp_path / "a").read_text() == "text\n"
    assert (tmp_path / "b").read_text() == '{\n "epsilon": 1.5\n}\n'
