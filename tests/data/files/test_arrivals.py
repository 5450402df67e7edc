from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.data.files.arrivals import Arrivals
from primia_flwr.errors import ConfigError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def arrivals(root: Path, clock: Clock, *, new_only: bool = False) -> Arrivals:
    return Arrivals(root, settle=1.0, new_only=new_only, clock=clock)


def names(watched: Arrivals) -> list[str]:
    return [found.path.name for found in watched.look()]


def test_a_file_is_given_once_when_it_has_not_changed_for_a_second(
    tmp_path: Path, clock: Clock
) -> None:
    watched = arrivals(tmp_path, clock)
    (tmp_path / "a.png").write_bytes(PNG)
    assert names(watched) == []
    clock.now += 0.9
    assert names(watched) == []
    clock.now += 0.1
    assert names(watched) == ["a.png"]
    clock.now += 100
    assert names(watched) == []


def test_a_file_that_grows_is_waited_for(tmp_path: Path, clock: Clock) -> None:
    watched = arrivals(tmp_path, clock)
    with (tmp_path / "a.png").open("wb") as growing:
        for _ in range(5):
            growing.write(PNG)
            growing.flush()
            assert names(watched) == []
            clock.now += 0.9
    assert names(watched) == []  # it has been so for 0.9 s
    clock.now += 0.1
    assert names(watched) == ["a.png"]


def test_what_comes_first_is_given_first(tmp_path: Path, clock: Clock) -> None:
    watched = arrivals(tmp_path, clock)
    for name, seconds in (("c.png", 30), ("a.png", 20), ("b.png", 10)):
        (tmp_path / name).write_bytes(PNG)
        os.utime(tmp_path / name, (seconds, seconds))
    watched.look()
    clock.now += 0.5
    (tmp_path / "0.png").write_bytes(PNG)
    watched.look()
    clock.now += 1
    # Those that were there at one look by their own time, then what came later.
    assert names(watched) == ["b.png", "a.png", "c.png", "0.png"]


def test_subfolders_are_looked_at_hidden_files_and_others_are_not(
    tmp_path: Path, clock: Clock
) -> None:
    watched = arrivals(tmp_path, clock)
    (tmp_path / "ward" / "room").mkdir(parents=True)
    (tmp_path / "ward" / "room" / "dicom-without-a-suffix").write_bytes(bytes(128) + b"DICM")
    (tmp_path / ".partial.png").write_bytes(PNG)
    (tmp_path / "notes.txt").write_text("none")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    watched.look()
    clock.now += 2
    assert names(watched) == ["dicom-without-a-suffix"]
    (tmp_path / ".partial.png").rename(tmp_path / "whole.png")
    watched.look()
    clock.now += 2
    assert names(watched) == ["whole.png"]


def test_a_changed_file_is_given_again_a_share_that_goes_and_comes_gives_nothing_twice(
    tmp_path: Path, clock: Clock
) -> None:
    root = tmp_path / "share"
    root.mkdir()
    watched = arrivals(root, clock)
    (root / "a.png").write_bytes(PNG)
    watched.look()
    clock.now += 1
    assert names(watched) == ["a.png"]
    root.rename(tmp_path / "gone")
    assert names(watched) == []
    (tmp_path / "gone").rename(root)
    clock.now += 5
    assert names(watched) == []
    (root / "a.png").write_bytes(PNG + b"more")
    watched.look()
    clock.now += 1
    assert names(watched) == ["a.png"]


def test_new_only_leaves_out_what_lies_there(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "old.png").write_bytes(PNG)
    watched = arrivals(tmp_path, clock, new_only=True)
    (tmp_path / "new.png").write_bytes(PNG)
    watched.look()
    clock.now += 1
    assert names(watched) == ["new.png"]


def test_only_a_folder_can_be_watched(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(ConfigError, match="expected the folder into which the images come"):
        arrivals(tmp_path / "a.png", clock)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([0.3, 0.7, 1.5])),
    ),
    max_size=30,
)


@given(EVENTS)
def test_each_version_of_a_file_is_given_once_and_only_when_it_has_rested(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, float]]
) -> None:
    root, clock = tmp_path_factory.mktemp("inbox"), Clock()
    watched = arrivals(root, clock)
    size, changed = 0, dict[Path, float]()
    given_out: list[tuple[Path, int]] = []

    def look() -> None:
        for found in watched.look():
            given_out.append((found.path, found.mark[0]))
            assert found.path.stat().st_size == found.mark[0]
            assert clock.now - changed[found.path] >= 1

    for what, value in events:
        path = root / f"{value}.png"
        if what == "write":
            size += 1  # no two versions have one size
            path.write_bytes(PNG + bytes(size))
            changed[path] = clock.now
        elif what == "remove":
            path.unlink(missing_ok=True)
        else:
            clock.now += value
        look()
    clock.now += 1
    look()
    assert len(set(given_out)) == len(given_out)
    left = {(path, path.stat().st_size) for path in root.glob("*.png")}
    assert left <= set(given_out)
