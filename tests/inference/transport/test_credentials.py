"""What a kit must be before anything is sent with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from primia_flwr.errors import ServiceError
from primia_flwr.inference.transport.credentials import load_credentials
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.service import ServicePlan, provision_service
from tests.inference.links import authority, credentials, service

PLAN = ServicePlan("trial", "127.0.0.1", "127.0.0.1", ["clinic-a"])


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A copy of a kit that a test may spoil."""
    return Path(shutil.copytree(service().kits["kit-clinic-a"], tmp_path / "kit"))


def test_a_kit_says_who_we_are_and_whom_we_know(kit: Path) -> None:
    own = load_credentials(kit)
    assert (own.service, own.own.role, own.own.name) == ("trial", "data-owner", "clinic-a")
    assert {str(peer) for peer in own.peers} == {
        "model-owner trial",
        "crypto-provider trial",
        "data-owner clinic-a",
    }
    assert own.address_of("model-owner") == "127.0.0.1:9700"
    assert own.address_of("crypto-provider") == "127.0.0.1:9701"
    with pytest.raises(ServiceError, match="has 0 addresses of a data-owner; expected one"):
        own.address_of("data-owner")
    assert "PRIVATE" not in repr(own)


def test_a_key_that_others_can_read(kit: Path) -> None:
    (kit / "party.key").chmod(0o640)
    with pytest.raises(ServiceError, match=r"has the mode 640, so others can read it; .* chmod"):
        load_credentials(kit)


@pytest.mark.parametrize("name", ["party.key", "party.crt", "ca.crt", "peers.yaml"])
def test_a_file_that_is_missing_or_something_else(kit: Path, name: str) -> None:
    (kit / name).write_bytes(b"\xff nonsense")
    with pytest.raises(ServiceError, match=name):
        load_credentials(kit)
    (kit / name).unlink()
    with pytest.raises(ServiceError, match=name):
        load_credentials(kit)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("party.key", r"party.key cannot be used \(key values mismatch\); expected"),
        ("party.crt", "party.key cannot be used|does not have the certificate"),
        ("peers.yaml", "does not have the certificate of data-owner clinic-a"),
    ],
)
def test_a_file_of_another_kit_of_the_service(kit: Path, name: str, match: str) -> None:
    shutil.copy(service().kits["kit-clinic-b"] / name, kit / name)
    with pytest.raises(ServiceError, match=match):
        load_credentials(kit)


def test_files_of_another_service(kit: Path, tmp_path: Path) -> None:
    other = provision_service(PLAN, tmp_path / "other").kits["kit-clinic-a"]
    for name, match in [("party.crt", "not signed by"), ("peers.yaml", "belongs to the CA")]:
        spoiled = Path(shutil.copytree(kit, tmp_path / name))
        shutil.copy(other / name, spoiled / name)
        with pytest.raises(ServiceError, match=match):
            load_credentials(spoiled)


def test_a_certificate_without_a_role(kit: Path) -> None:
    key, certificate = certs.issue_server_certificate(authority(), ["clinic-a"], days=1)
    certs.write_certificate(kit / "party.crt", certificate)
    (kit / "party.key").unlink()
    certs.write_private(kit / "party.key", certs.private_bytes(key, openssh=False))
    with pytest.raises(ServiceError, match=r"has a certificate with the names \[\]; expected one"):
        load_credentials(kit)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.pop("service"), "cannot be read"),
        (lambda c: c.update(more=1), "unknown entry 'more'"),
        (lambda c: c.update(peers=7), "cannot be read"),
        (lambda c: c.update(peers=["x"]), "cannot be read"),
        (lambda c: c["peers"][0].update(role="admin"), "the role 'admin' is none of data-owner"),
        (lambda c: c["peers"][0].update(fingerprint="AB:CD"), "'AB:CD', which is no SHA-256"),
        (lambda c: c["peers"][0].update(name=5), "5 is no text"),
        (lambda c: c["peers"][0].update(more="x"), "cannot be read"),
        (lambda c: c["peers"].append(dict(c["peers"][0])), "the party model-owner trial twice"),
        (lambda c: c["peers"].append({**c["peers"][0], "name": "x"}), "the fingerprint .* twice"),
        (lambda c: c["peers"].pop(), "does not have the certificate of data-owner clinic-a"),
    ],
)
def test_a_peers_file_that_says_something_odd(kit: Path, change: object, match: str) -> None:
    content = yaml.safe_load((kit / "peers.yaml").read_text())
    change(content)  # type: ignore[operator]
    (kit / "peers.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ServiceError, match=match):
        load_credentials(kit)


def test_fingerprints_may_be_written_in_any_usual_way(kit: Path) -> None:
    content = yaml.safe_load((kit / "peers.yaml").read_text())
    for peer in content["peers"]:
        peer["fingerprint"] = peer["fingerprint"].replace(":", "").lower()
    (kit / "peers.yaml").write_text(yaml.safe_dump(content))
    assert load_credentials(kit).peers == credentials("data-owner").peers
