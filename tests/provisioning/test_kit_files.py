"""A kit that lost a file, or has another in its place: one sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from primia_flwr.errors import PrimiaError
from primia_flwr.inference.transport.credentials import load_credentials
from primia_flwr.provisioning.federation import Plan, provision
from primia_flwr.provisioning.identities import load_identity, roster_keys
from primia_flwr.provisioning.service import ServicePlan, provision_service
from primia_flwr.site.check import check_certificate, check_key
from primia_flwr.site.policy import load_policy

FILES = ("ca.crt", "supernode.key", "identity.key", "roster.yaml", "site.yaml")
PARTY = ("party.key", "party.crt", "ca.crt", "peers.yaml")
GARBLED = (None, b"", b"\xff\0", b"hello\n", b"- [")


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    return provision(Plan("fl", ["munich", "paris"], "localhost", 9391), tmp_path / "fl").kits[
        "munich"
    ]


@pytest.fixture
def party(tmp_path: Path) -> Path:
    plan = ServicePlan("trial", "localhost", "localhost", ["a"])
    return next(iter(provision_service(plan, tmp_path / "service").kits.values()))


def garble(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def problems(kit: Path) -> str:
    """Return what is said of a kit; nothing where all is well."""
    try:
        policy = load_policy(kit / "site.yaml")
        roster_keys(policy.path(policy.roster))
        load_identity(policy.path(policy.identity_key))
    except PrimiaError as error:
        return str(error)
    found = [check_key(policy, key) for key in ("supernode_key", "identity_key")]
    found.append(check_certificate(policy))
    return "; ".join(f"{one.name}: {one.found}" for one in found if not one.ok)


def test_a_whole_kit_is_ready(kit: Path, party: Path) -> None:
    assert not problems(kit)
    load_credentials(party)


@pytest.mark.parametrize("content", GARBLED)
@pytest.mark.parametrize("name", FILES)
def test_a_garbled_file_of_a_site_is_named(kit: Path, name: str, content: bytes | None) -> None:
    garble(kit / name, content)
    said = problems(kit)
    assert name in said
    assert said.isprintable()


@pytest.mark.parametrize("content", GARBLED)
@pytest.mark.parametrize("name", PARTY)
def test_a_garbled_file_of_a_party_is_named(party: Path, name: str, content: bytes | None) -> None:
    garble(party / name, content)
    with pytest.raises(PrimiaError) as caught:
        load_credentials(party)
    assert name in str(caught.value)
    assert str(caught.value).isprintable()
