from __future__ import annotations

import stat
from pathlib import Path

import pytest

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.protocol.client import ClientInstance, Phase
from primia_flwr.secagg.protocol.vault import Vault
from tests.secagg.federation import members

ME = "s001"


def test_an_instance_comes_back_as_it_was(tmp_path: Path) -> None:
    everyone = members(3)
    begun = Vault(tmp_path, everyone[ME]).begin(5)
    again = Vault(tmp_path, everyone[ME]).load(5)
    assert again.to_bytes() == begun.to_bytes()
    assert again.public_keys() == begun.public_keys()


def test_what_rests_shows_no_secret_and_is_for_its_owner_only(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "run", members(3)[ME])
    instance = vault.begin(1)
    secrets = [instance._seed, instance._keys.masking.private_bytes()]  # type: ignore[union-attr]
    files = list((tmp_path / "run").iterdir())
    assert {path.name for path in files} == {"instance-1.sealed", "last"}
    for path in files:
        assert not any(secret in path.read_bytes() for secret in secrets)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [4, 5, 0])
def test_no_instance_repeats(tmp_path: Path, number: int) -> None:
    everyone = members(3)
    Vault(tmp_path, everyone[ME]).begin(5)
    with pytest.raises(ProtocolError, match=f"begin instance {number}; expected one above 5"):
        Vault(tmp_path, everyone[ME]).begin(number)


def test_a_spent_instance_is_deleted_and_only_two_are_kept(tmp_path: Path) -> None:
    vault = Vault(tmp_path, members(3)[ME])
    for number in (1, 2, 3):
        vault.begin(number)
    assert {path.name for path in tmp_path.glob("*.sealed")} == {
        "instance-2.sealed",
        "instance-3.sealed",
    }
    spent = vault.load(3)
    spent.phase = Phase.SPENT
    vault.save(spent)
    with pytest.raises(ProtocolError, match="knows nothing of instance 3"):
        vault.load(3)


def test_what_was_altered_moved_or_is_anothers_does_not_open(tmp_path: Path) -> None:
    everyone = members(3)
    vault = Vault(tmp_path, everyone[ME])
    vault.begin(1)
    path = tmp_path / "instance-1.sealed"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ProtocolError, match="was altered"):
        vault.load(1)
    path.write_bytes(raw)
    path.rename(tmp_path / "instance-2.sealed")
    with pytest.raises(ProtocolError, match="was altered"):
        vault.load(2)
    (tmp_path / "instance-2.sealed").rename(path)
    with pytest.raises(ProtocolError, match="sealed under another identity key"):
        Vault(tmp_path, everyone["s002"]).load(1)


def test_a_state_from_before_its_keys_were_shared_is_refused_as_bytes(tmp_path: Path) -> None:
    member = members(3)[ME]
    with pytest.raises(ProtocolError, match="secure-aggregation message"):
        ClientInstance.from_bytes(member, b"rubbish")
