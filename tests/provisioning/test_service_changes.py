"""Parties come and go and are renewed with the CA that there is; nobody else's kit changes."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from primia_flwr.cli.command import call
from primia_flwr.cli.inference.provision import COMMAND
from primia_flwr.errors import FederationError, PrimiaError, ServiceError
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.credentials import Peer, load_credentials, soon_over
from primia_flwr.inference.transport.listener import Listener
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.service import ServicePlan, issue_party, provision_service
from primia_flwr.provisioning.service_changes import ServiceFolder

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
PLAN = ServicePlan("trial", "127.0.0.1", "127.0.0.1", ["clinic-a", "clinic-b"], days=40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return provision_service(PLAN, tmp_path / "trial").folder


def change(folder: Path, *, days: int = 730, **names: Sequence[str]) -> None:
    ServiceFolder(folder).change(days=days, **names)


@contextmanager
def model_owner(folder: Path, *, peers: bool = True) -> Iterator[str]:
    """A model owner, started anew: with the service's peers file, or with its own old one."""
    kit = folder / "kit-model-owner"
    if peers:
        shutil.copyfile(folder / "peers.yaml", kit / "peers.yaml")
    with Listener("127.0.0.1:0", load_credentials(kit), accept=["data-owner"]) as listener:
        yield f"127.0.0.1:{listener.port}"


def comes_in(kit: Path, address: str) -> None:
    connect(address, load_credentials(kit), expect="model-owner", timeout=5).close()


def contents(kit: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in kit.iterdir()}


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def test_a_data_owner_comes_and_the_others_notice_nothing(folder: Path) -> None:
    before, ca = contents(folder / "kit-clinic-a"), (folder / "ca.crt").read_bytes()
    change(folder, add=["clinic-c"])
    kit = folder / "kit-clinic-c"
    not_yet = pytest.raises(ServiceError, match="which is not in")
    with model_owner(folder, peers=False) as address, not_yet:
        comes_in(kit, address)
    with model_owner(folder) as address:
        for name in ("clinic-a", "clinic-b", "clinic-c"):
            comes_in(folder / f"kit-{name}", address)
    assert contents(folder / "kit-clinic-a") == before
    assert (folder / "ca.crt").read_bytes() == ca
    assert {str(peer) for peer in load_credentials(kit).peers} == {
        "model-owner trial",
        "crypto-provider trial",
        "data-owner clinic-c",
    }
    assert stat.S_IMODE((kit / "party.key").stat().st_mode) == 0o600
    assert (folder / "kit-clinic-c.zip").is_file()
    assert not list(folder.glob(".adding-*"))


def test_who_is_removed_is_refused_with_any_certificate_and_may_come_again(folder: Path) -> None:
    old = shutil.copytree(folder / "kit-clinic-b", folder.parent / "old")
    change(folder, renew=["clinic-b"])
    shutil.copyfile(folder / "certificates" / "kit-clinic-b.crt", old / "party.crt")
    change(folder, remove=["clinic-b"])
    with model_owner(folder) as address:
        comes_in(folder / "kit-clinic-a", address)
        for kit in (folder / "kit-clinic-b", old):
            with pytest.raises(ServiceError, match=r"clinic-b with the certificate .* not in"):
                comes_in(kit, address)
    shutil.rmtree(folder / "kit-clinic-b")
    (folder / "kit-clinic-b.zip").unlink()
    change(folder, add=["clinic-b"])
    with model_owner(folder) as address:
        comes_in(folder / "kit-clinic-b", address)
        with pytest.raises(ServiceError, match=r"clinic-b with the certificate .* not in"):
            comes_in(old, address)  # the key that was removed stays out


@pytest.mark.parametrize("name", ["clinic-a", "model-owner"])
def test_a_renewed_certificate_is_no_news_to_anybody_else(folder: Path, name: str) -> None:
    kit = folder / f"kit-{name}"
    last, key = certificate(kit / "party.crt"), (kit / "party.key").read_bytes()
    change(folder, renew=[name], days=700)
    shutil.copyfile(folder / "certificates" / f"kit-{name}.crt", kit / "party.crt")
    new = certificate(kit / "party.crt")
    assert new.public_key() == last.public_key()
    assert new.not_valid_after_utc - last.not_valid_after_utc > timedelta(days=650)
    kinds = (x509.SubjectAlternativeName, x509.ExtendedKeyUsage)
    assert [new.extensions.get_extension_for_class(kind).value for kind in kinds] == [
        last.extensions.get_extension_for_class(kind).value for kind in kinds
    ]
    with model_owner(folder, peers=False) as address:
        for party in ("clinic-a", "clinic-b"):
            comes_in(folder / f"kit-{party}", address)
    assert (kit / "party.key").read_bytes() == key
    assert ServiceFolder(folder).peers[name].fingerprint == certs.certificate_fingerprint(new)
    change(folder, renew=[name])  # and once more


def test_a_certificate_of_another_key_is_a_strangers_whoever_signed_it(folder: Path) -> None:
    """Whoever has the CA's key alone still comes in nowhere."""
    authority = ServiceFolder(folder).authority
    kit = folder.parent / "kit"
    issue_party(kit, authority, "data-owner", "clinic-a", plan=PLAN)
    for name in ("ca.crt", "peers.yaml"):
        shutil.copyfile(folder / "kit-clinic-a" / name, kit / name)
    with pytest.raises(ServiceError, match="does not have the certificate"):
        load_credentials(kit)
    der = certificate(kit / "party.crt").public_bytes(certs.Encoding.DER)
    with pytest.raises(ServiceError, match="which is not in"):
        load_credentials(folder / "kit-model-owner").identify(der, ["data-owner"])


def test_a_pinned_key_under_another_name_is_a_strangers(folder: Path) -> None:
    service = ServiceFolder(folder)
    key = certificate(folder / "kit-clinic-a" / "party.crt").public_key()
    uri = x509.UniformResourceIdentifier("primia:service:data-owner:clinic-b")
    made = certs.certify(service.authority, key, "x", [uri], [CLIENT], days=1)  # type: ignore[arg-type]
    with pytest.raises(ServiceError, match="is data-owner clinic-b with the certificate"):
        load_credentials(folder / "kit-model-owner").identify(
            made.public_bytes(certs.Encoding.DER), ["data-owner"]
        )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({}, "expected at least one party, and each once"),
        ({"add": ["x", "x"]}, "and each once"),
        ({"add": ["x"], "remove": ["x"]}, "and each once"),
        ({"add": ["Clinic-A"]}, "expected another one, or renew="),
        ({"add": ["x", "X"]}, "expected another one"),
        ({"add": ["model-owner"]}, "expected another one"),
        ({"add": ["../x"]}, "expected 1 to 32 letters"),
        ({"remove": ["model-owner"]}, "expected one of clinic-a, clinic-b"),
        ({"remove": ["nobody"]}, "expected one of clinic-a, clinic-b"),
        ({"renew": ["nobody"]}, "expected one of model-owner, crypto-provider, clinic-a, clinic-b"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(
    folder: Path, names: dict[str, list[str]], words: str
) -> None:
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(FederationError, match=words):
        change(folder, **names)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_without_the_ca_or_with_files_of_another_service_nothing_is_changed(
    folder: Path, tmp_path: Path
) -> None:
    other = provision_service(PLAN, tmp_path / "other").folder
    shutil.copyfile(other / "certificates" / "kit-clinic-a.crt", folder / "certificates" / "x")
    (folder / "certificates" / "x").replace(folder / "certificates" / "kit-clinic-a.crt")
    with pytest.raises(FederationError, match=r"the party\.crt of data-owner clinic-a"):
        change(folder, renew=["clinic-a"])
    (folder / "certificates" / "kit-clinic-a.crt").unlink()
    with pytest.raises(FederationError, match="which is public: ask for it"):
        change(folder, renew=["clinic-a"])
    shutil.copyfile(other / "peers.yaml", folder / "peers.yaml")
    with pytest.raises(PrimiaError, match="belongs to the CA"):
        ServiceFolder(folder)
    (folder / "peers.yaml").unlink()
    with pytest.raises(FederationError, match=r"copy the peers\.yaml of the model owner's kit"):
        ServiceFolder(folder)
    (folder / "ca.key").chmod(0o644)
    with pytest.raises(FederationError, match="expected 600"):
        ServiceFolder(folder)
    (other / "ca.key").replace(folder / "ca.key")
    with pytest.raises(PrimiaError, match=r"ca\.key cannot be read \(it is not the key of"):
        ServiceFolder(folder)
    (folder / "ca.key").unlink()
    with pytest.raises(FederationError, match="it is kept offline"):
        ServiceFolder(folder)


def test_a_service_of_an_earlier_version_can_be_changed(folder: Path) -> None:
    """Its pins are of certificates alone: a renewal concerns all who talk to that party."""
    for file in (folder / "peers.yaml", folder / "kit-model-owner" / "peers.yaml"):
        lines = [line for line in file.read_text().splitlines() if "  key:" not in line]
        file.write_text("\n".join(lines) + "\n")
    change(folder, renew=["clinic-a"], add=["clinic-c"])
    kit = folder / "kit-clinic-a"
    with model_owner(folder) as address:
        comes_in(kit, address)  # with the last one, whose key is pinned now
        shutil.copyfile(folder / "certificates" / "kit-clinic-a.crt", kit / "party.crt")
        comes_in(kit, address)
        comes_in(folder / "kit-clinic-c", address)


@pytest.mark.parametrize(("days", "told"), [(29, True), (31, False)])
def test_the_end_of_a_certificate_is_told_a_month_ahead(days: int, told: bool) -> None:
    peer = Peer("data-owner", "clinic-a", "AA")
    said = soon_over(peer, datetime.now(UTC) + timedelta(days=days, minutes=1))
    assert ("in 29 days" in said and "renew=[clinic-a]" in said) == told == bool(said)
    assert soon_over(peer, None) == ""


def test_a_kit_and_a_peer_that_end_soon_are_told(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_credentials(folder / "kit-clinic-a").expiry() == ""
    change(folder, renew=["clinic-a", "model-owner"], days=7)
    for name in ("clinic-a", "model-owner"):
        kit = folder / f"kit-{name}"
        shutil.copyfile(folder / "certificates" / f"kit-{name}.crt", kit / "party.crt")
    said = load_credentials(folder / "kit-model-owner").expiry()
    assert "the certificate of model-owner trial ends on" in said
    with model_owner(folder) as address:
        comes_in(folder / "kit-clinic-a", address)
    assert "the certificate of data-owner clinic-a ends on" in caplog.text


def test_certificates_do_not_outlive_the_ca(folder: Path) -> None:
    made = ServiceFolder(folder).change(renew=["clinic-a"], days=10**4)
    assert 3640 < made.days <= 3650
    ends = certificate(made.certificates["clinic-a"]).not_valid_after_utc
    assert ends <= ServiceFolder(folder).authority.certificate.not_valid_after_utc


def test_the_command_says_who_gets_what(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"output={folder}", "add=[clinic-c]", "remove=[clinic-b]", "renew=[clinic-a]"]
    assert call(COMMAND, words) == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result["kits"] == {"clinic-c": str(folder / "kit-clinic-c.zip")}
    assert result["certificates"] == {"clinic-a": str(folder / "certificates" / "kit-clinic-a.crt")}
    assert result["removed"] == ["clinic-b"]
    assert "it replaces party.crt in its kit" in out
    assert call(COMMAND, [*words, "data_owners=[x]"]) == 2
    assert "which make a new one" in capsys.readouterr().err
