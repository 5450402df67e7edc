"""Keyed digests, versions and groups of units."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger.people import (
    count_units,
    keep_key,
    keep_version,
    make_key,
    people,
    read_key,
    read_version,
    rows,
    version_of,
    write_version,
)

KEY = bytes(range(32))


def test_people_by_hand() -> None:
    alone = {"v1": [("a",), ("b",)], "v2": [("a",), ("b",), ("c",)], "v3": [("c",), ("d",)]}
    assert people(alone) == {
        frozenset({("v1", 1), ("v2", 1)}): 2,
        frozenset({("v2", 1), ("v3", 1)}): 1,
        frozenset({("v3", 1)}): 1,
    }
    assert people({}) == {}


def test_people_who_share_images_by_hand() -> None:
    one = [("anna", "x", "y"), ("ben", "z")]
    # anna is two in the second version, under names that were never seen; ben has a new image
    two = [("new", "x"), ("other", "y"), ("ben", "w")]
    # x under two names at once is one unit; it ties "late" to anna
    three = [("late", "x"), ("eve", "x", "v")]
    assert people({"v1": one, "v2": two}) == {
        frozenset({("v1", 1), ("v2", 2)}): 1,
        frozenset({("v1", 1), ("v2", 1)}): 1,
    }
    assert people({"v1": one, "v3": three}) == {
        frozenset({("v1", 1), ("v3", 1)}): 1,
        frozenset({("v1", 1)}): 1,
    }
    assert [count_units(v) for v in (one, two, three)] == [2, 3, 1]


def digest_of(kind: bytes, text: str) -> str:
    return hmac.new(KEY, kind + text.encode(), hashlib.sha256).hexdigest()[:32]


def test_rows_by_hand() -> None:
    anna, ben = (digest_of(b"primia privacy unit v1\0", name) for name in ("anna", "ben"))
    x, y = (digest_of(b"primia privacy image v1\0", image * 64) for image in "ab")
    assert rows(KEY, ["anna", "anna"]) == [(anna,)]
    found = rows(KEY, ["anna", "ben", "anna"], ["a" * 64, "a" * 64, "b" * 64])
    assert found == sorted([(anna, *sorted([x, y])), (ben, x)])


@pytest.mark.parametrize("images", [[], ["a" * 64] * 2, ["a" * 63], ["A" * 64], ["a" * 64 + "\n"]])
def test_images_without_a_digest_each_are_refused(images: list[str]) -> None:
    with pytest.raises(DataError, match="expected the SHA-256"):
        rows(KEY, ["anna"], images)


def test_names_of_any_kind_have_a_digest() -> None:
    names = ["Jörg", "\udcff", "1" * 1000, " ", "a\nb"]
    assert len(set(rows(KEY, names))) == len(names)


def test_another_key_knows_nobody() -> None:
    assert not set(rows(KEY, ["anna"])) & set(rows(bytes(32), ["anna"]))


def test_versions_of_names_alone_are_read_as_they_were_written(tmp_path: Path) -> None:
    """The format before images were known: one digest a line."""
    names = [row[0] for row in rows(KEY, ["anna", "ben"])]
    content = "".join(f"{name}\n" for name in names).encode()
    version = hashlib.sha256(content).hexdigest()
    write_version(tmp_path, version, content)
    assert read_version(tmp_path, version) == [(name,) for name in names]


def test_versions_do_not_depend_on_the_order(tmp_path: Path) -> None:
    one, content = version_of(rows(KEY, ["anna", "ben"]))
    other, _ = version_of(rows(KEY, ["ben", "anna"]))
    assert one == other == hashlib.sha256(content).hexdigest()
    write_version(tmp_path, one, content)
    assert [file.suffix for file in (tmp_path / "data").iterdir()] == [".pending"]
    keep_version(tmp_path, one)
    assert [file.name for file in (tmp_path / "data").iterdir()] == [f"{one}.units"]
    assert read_version(tmp_path, one) == rows(KEY, ["anna", "ben"])


def test_version_under_another_name_is_refused(tmp_path: Path) -> None:
    _, content = version_of(rows(KEY, ["anna"]))
    write_version(tmp_path, "0" * 64, content)
    with pytest.raises(DataError, match="was changed"):
        read_version(tmp_path, "0" * 64)


def test_key_waits_for_its_entry_and_is_then_the_sites_alone(tmp_path: Path) -> None:
    assert make_key(tmp_path) != (key := make_key(tmp_path))
    assert not (tmp_path / "unit.key").exists()
    keep_key(tmp_path)
    assert read_key(tmp_path) == key
    assert len(key) == 32
    assert (tmp_path / "unit.key").stat().st_mode & 0o777 == 0o600
