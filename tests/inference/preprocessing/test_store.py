from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.preprocessing import store as store_module
from primia_flwr.inference.preprocessing.store import Store, remove_left_over

SESSION = bytes(32)
PARTS = [b"seed", b"", b"a longer part" * 1000]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path, SESSION, limit_bytes=20_000)
    yield opened
    opened.close()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("primia-store-*/*.sealed"))


def test_a_block_comes_back_once(store: Store, tmp_path: Path) -> None:
    store.put(0, PARTS)
    assert store.take(0) == PARTS
    assert not files(tmp_path)
    with pytest.raises(ProtocolError, match="block 0 was used or burned"):
        store.take(0)
    with pytest.raises(ProtocolError, match="second time"):
        store.put(0, PARTS)


def test_taking_a_block_burns_those_before_it(store: Store, tmp_path: Path) -> None:
    for number in range(3):
        store.put(number, PARTS)
    assert store.take(1) == PARTS
    assert store.numbers == (2,)
    assert len(files(tmp_path)) == 1
    with pytest.raises(ProtocolError, match="used or burned"):
        store.take(0)


def test_the_disk_shows_nothing_of_a_block(store: Store, tmp_path: Path) -> None:
    store.put(0, [b"a secret seed of thirty-two bytes"])
    (file,) = files(tmp_path)
    # 9 bytes of flag and length, then the part and a tag of 16 bytes.
    assert file.stat().st_size == 9 + 33 + 16
    assert b"secret" not in file.read_bytes()


def test_a_restored_file_opens_nothing(store: Store, tmp_path: Path) -> None:
    store.put(0, PARTS)
    (file,) = files(tmp_path)
    copy = tmp_path / "backup"
    shutil.copyfile(file, copy)
    store.take(0)
    shutil.copyfile(copy, file)
    with pytest.raises(ProtocolError, match="used or burned"):
        store.take(0)


def test_a_restored_disk_opens_nothing_in_another_process_life(tmp_path: Path) -> None:
    first = Store(tmp_path / "disk", SESSION, limit_bytes=10**6)
    first.put(0, PARTS)
    (file,) = files(tmp_path / "disk")
    backup = tmp_path / "backup"
    shutil.copyfile(file, backup)
    first.close()
    second = Store(tmp_path / "disk", SESSION, limit_bytes=10**6)
    second.put(0, PARTS)
    (file,) = files(tmp_path / "disk")
    assert file.read_bytes() != backup.read_bytes()
    shutil.copyfile(backup, file)
    with pytest.raises(ServiceError, match="changed or cut off"):
        second.take(0)
    second.close()


@pytest.mark.parametrize("at", [0, 7, 8, 40, -1])
def test_a_changed_file_is_noticed(store: Store, tmp_path: Path, at: int) -> None:
    store.put(0, PARTS)
    (file,) = files(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[at] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ServiceError, match="changed or cut off"):
        store.take(0)


def test_a_part_of_several_pieces_comes_back_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_PIECE_BYTES", 1000)
    parts = [bytes(999), bytes(1000), bytes(range(256)) * 10, b""]
    store.put(0, parts)
    assert store.used_bytes == 999 + 1000 + 2560 + (1 + 1 + 3 + 1) * 25
    assert store.take(0) == parts


def test_a_shortened_file_is_noticed(store: Store, tmp_path: Path) -> None:
    store.put(0, PARTS)
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ServiceError, match="changed or cut off"):
        store.take(0)


def test_a_swapped_block_is_noticed(store: Store, tmp_path: Path) -> None:
    for number in range(2):
        store.put(number, PARTS)
    one, other = files(tmp_path)
    shutil.copyfile(other, one)
    with pytest.raises(ServiceError, match="changed or cut off"):
        store.take(0)


def test_room_is_what_the_limit_says(store: Store) -> None:
    assert store.has_room(10**9)  # the first block always has
    store.put(0, PARTS)
    # 3 parts: 4 + 0 + 13,000 bytes, each with 9 of flag and length and 16 of tag.
    assert store.used_bytes == 13_004 + 3 * 25
    assert store.has_room(20_000 - 13_079)
    assert not store.has_room(20_001 - 13_079)


def test_a_block_that_was_not_fetched_cannot_be_taken(store: Store) -> None:
    with pytest.raises(ServiceError, match="block 5 is not in the store"):
        store.take(5)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="cannot be written"):
        Store(tmp_path / "file" / "below", SESSION, limit_bytes=1)


def test_what_dead_processes_left_is_removed_and_what_lives_stays(tmp_path: Path) -> None:
    left = tmp_path / "primia-store-dead"
    left.mkdir()
    (left / "block-00000000.sealed").write_bytes(b"x")
    living = Store(tmp_path, SESSION, limit_bytes=10**6)
    assert not left.exists()
    living.put(0, PARTS)
    remove_left_over(tmp_path)
    assert living.take(0) == PARTS
    living.close()
    assert [path.name for path in tmp_path.iterdir()] in ([], ["primia-store.lock"])
