"""Private keys on a disk: who may read them, and what is said where somebody else may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import (
    make_identity_key,
    make_supernode_key,
    private_bytes,
    public_line_of,
    write_private,
)
from primia_flwr.provisioning.identities import load_identity, simulated_keys


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "identity.key"
    write_private(file, private_bytes(make_identity_key(), openssh=True))
    return file


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o677])
def test_a_key_that_others_can_read_or_change_is_refused_with_the_remedy(
    key: Path, mode: int
) -> None:
    load_identity(key)
    key.chmod(mode)
    for load in (load_identity, public_line_of):
        with pytest.raises(FederationError) as caught:
            load(key)
        assert f"mode {mode:o}, so others can read it; expected 600; chmod 600 {key}" in str(
            caught.value
        )


def test_an_owner_may_take_write_permission_away(key: Path) -> None:
    key.chmod(0o400)
    load_identity(key)


def test_the_mode_that_counts_is_that_of_the_file_behind_a_link(key: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.key"
    link.symlink_to(key)
    load_identity(link)
    key.chmod(0o644)
    with pytest.raises(FederationError, match="chmod 600"):
        load_identity(link)


def test_somebody_elses_key_is_refused(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = key.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:  # root can change every file anyway
        load_identity(key)
        os.chown(key, 12345, -1)
    with pytest.raises(FederationError, match=r"belongs to user \d+.*chown"):
        load_identity(key)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\0", b"-----BEGIN OPENSSH PRIVATE KEY-"])
def test_what_is_no_key_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "identity.key"
    write_private(file, content)
    with pytest.raises(FederationError, match=r"identity\.key cannot be read .*expected .*unzip"):
        load_identity(file)


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "identity.key"
    write_private(file, private_bytes(make_supernode_key(), openssh=True))
    with pytest.raises(FederationError, match="no Ed25519 key"):
        load_identity(file)


@pytest.mark.parametrize(
    "content",
    ['{"a": "' + "00" * 31 + '"}', '{"a": 5}', "[]", '{"a": "00", "a": "00"}', '{"a":' * 1500],
)
def test_a_simulations_identities_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "identities.json").write_text(content)
    with pytest.raises(FederationError, match=r"identities\.json cannot be read .*new run"):
        simulated_keys(tmp_path)
