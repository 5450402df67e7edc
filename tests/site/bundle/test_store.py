import os
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.site.bundle import store as bundle_store
from primia_flwr.site.bundle.contents import MAX_BUNDLE_BYTES, BundleStore, sha256
from tests.site.bundle_maker import make_bundle


def numbered(number: int) -> bytes:
    return make_bundle({"a.py": str(number)})


def add(store: BundleStore, number: int, *, approved: tuple[str, ...] = ()) -> str:
    """Add a bundle that came `number` seconds after the first."""
    content = numbered(number)
    assert store.add(content, approved=approved)
    file = store.folder / f"{sha256(content)}.fab"
    if file.is_file():
        os.utime(file, (number, number))
    return sha256(content)


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path / "bundles")


def test_what_is_kept_is_found_by_its_beginning_and_read(store: BundleStore) -> None:
    first = add(store, 1)
    assert add(store, 1) == first
    assert store.hashes() == [first]
    assert store.find(first[:8]) == first
    assert store.read(first) == numbered(1)
    for wrong in ("12", "zz" * 8, sha256(b"other")[:12], "../" * 4, first.upper()):
        with pytest.raises(DataError, match="bundle="):
            store.find(wrong)
    (store.folder / f"{first}.fab").write_bytes(numbered(2))
    with pytest.raises(DataError, match="was changed"):
        store.read(first)
    with pytest.raises(DataError, match="cannot be read"):
        store.read("ab" * 32)


def test_two_that_begin_alike_are_told_apart(store: BundleStore) -> None:
    store.folder.mkdir()
    for end in "01":
        (store.folder / f"{'ab' * 6 + end * 52}.fab").write_bytes(b"x")
    with pytest.raises(DataError, match="fits 2 of the bundles"):
        store.find("ab" * 6)


def test_what_came_before_never_blocks_a_new_release(store: BundleStore) -> None:
    for number in range(60):
        add(store, number)
    release = add(store, 1000)
    assert release in store.hashes()
    assert len(store.hashes()) == bundle_store.MAX_WAITING == 50
    assert store.hashes()[1:] == [sha256(numbered(n)) for n in range(59, 10, -1)]


def test_what_comes_after_takes_no_place_that_is_kept(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_store, "MAX_WAITING", 5)
    approved, expected, later = (sha256(numbered(n)) for n in (1, 2, 3))
    add(store, 1, approved=(approved,))
    store.expect(expected)
    store.expect(later)
    add(store, 2)
    for number in range(100, 130):
        add(store, number, approved=(approved,))
    add(store, 3, approved=(approved,))
    for number in range(200, 230):
        add(store, number, approved=(approved,))
    kept = store.hashes()
    assert {approved, expected, later} <= set(kept)
    assert len(kept) == 3 + 5
    assert store.read(expected) == numbered(2)


def test_one_that_is_being_looked_at_can_be_kept(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_store, "MAX_WAITING", 2)
    first = add(store, 1)
    store.expect(first)
    for number in range(2, 9):
        add(store, number)
    assert first in store.hashes()


def test_the_waiting_room_is_bounded_in_bytes_too(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(numbered(11))
    monkeypatch.setattr(bundle_store, "MAX_WAITING_BYTES", 3 * size + 1)
    for number in range(10, 30):
        add(store, number)
    assert store.hashes() == [sha256(numbered(n)) for n in (29, 28, 27)]
    assert sum(f.stat().st_size for f in store.folder.glob("*.fab")) == 3 * size


def test_a_bundle_that_is_too_large_is_not_kept(store: BundleStore) -> None:
    assert not store.add(b"x" * (MAX_BUNDLE_BYTES + 1))
    assert store.hashes() == []


@pytest.mark.parametrize("digest", ["", "3fa91c02", "3f" * 6, "AB" * 32, "ab" * 33, "../../x"])
def test_only_a_whole_hash_is_expected(store: BundleStore, digest: str) -> None:
    with pytest.raises(DataError, match="expected the whole hash, 64 hex digits"):
        store.expect(digest)


def test_expectations_are_bounded(store: BundleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_store, "MAX_EXPECTED", 1)
    store.expect("ab" * 32)
    with pytest.raises(DataError, match="has 1 expected bundles"):
        store.expect("cd" * 32)


def test_other_files_in_the_folder_are_no_bundles_and_stay(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_store, "MAX_WAITING", 1)
    store.folder.mkdir()
    (store.folder / "mine.fab").write_bytes(b"x")
    (store.folder / "[x].fab").write_bytes(b"x")
    add(store, 1)
    second = add(store, 2)
    assert store.hashes() == [second]
    assert (store.folder / "mine.fab").is_file()
