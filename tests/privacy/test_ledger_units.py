"""Keyed digests, versions and groups of units."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger_units import (
    digests,
    groups,
    make_key,
    read_version,
    version_of,
    write_version,
)

KEY = bytes(range(32))


def test_groups_by_hand() -> None:
    found = groups({"v1": "ab", "v2": "abc", "v3": "cd"})
    assert found == {
        frozenset({"v1", "v2"}): 2,
        frozenset({"v2", "v3"}): 1,
        frozenset({"v3"}): 1,
    }
    assert groups({}) == {}


def test_digest_by_hand() -> None:
    expected = hmac.new(KEY, b"primia privacy unit v1\0anna", hashlib.sha256).hexdigest()[:32]
    assert digests(KEY, ["anna", "anna"]) == [expected]


def test_names_of_any_kind_have_a_digest() -> None:
    names = ["Jörg", "\udcff", "1" * 1000, " ", "a\nb"]
    assert len(set(digests(KEY, names))) == len(names)


def test_another_key_knows_nobody() -> None:
    assert not set(digests(KEY, ["anna"])) & set(digests(bytes(32), ["anna"]))


def test_versions_do_not_depend_on_the_order(tmp_path: Path) -> None:
    one, content = version_of(digests(KEY, ["anna", "ben"]))
    other, _ = version_of(digests(KEY, ["ben", "anna"]))
    assert one == other == hashlib.sha256(content).hexdigest()
    write_version(tmp_path, one, content)
    assert read_version(tmp_path, one) == digests(KEY, ["anna", "ben"])


def test_version_under_another_name_is_refused(tmp_path: Path) -> None:
    _, content = version_of(digests(KEY, ["anna"]))
    write_version(tmp_path, "0" * 64, content)
    with pytest.raises(DataError, match="was changed"):
        read_version(tmp_path, "0" * 64)


def test_key_is_made_once(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    assert len(key) == 32
    assert make_key(tmp_path) == key
    assert (tmp_path / "unit.key").stat().st_mode & 0o777 == 0o600
