"""`primia provision service`: kits that the parties can start with at once."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from primia_flwr.cli.command import call
from primia_flwr.cli.inference.provision import COMMAND, ProvisionServiceArguments
from primia_flwr.cli.main import run
from primia_flwr.config.load import compose, parse
from primia_flwr.inference.transport.credentials import load_credentials, service_uri

ARGUMENTS = [
    "model_owner=diagnosis.example.org",
    "crypto_provider=10.0.0.7",
    "data_owners=[clinic-a,clinic-b]",
]
KITS = {"kit-model-owner", "kit-crypto-provider", "kit-clinic-a", "kit-clinic-b"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("services") / "diagnosis"
    assert call(COMMAND, [*ARGUMENTS, f"output={output}", "quiet=true"]) == 0
    return output


def names(certificate: Path) -> list[str]:
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    extension = read.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in extension.value]


def test_the_commands_are_shown_and_one_json_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["provision", "service", *ARGUMENTS, "model_owner_port=443"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result["service"] == "services/diagnosis"
    assert result["addresses"] == {
        "model-owner": "diagnosis.example.org:443",
        "crypto-provider": "10.0.0.7:9701",
    }
    assert result["kits"].keys() == KITS
    assert all(Path(kit).is_file() for kit in result["kits"].values())
    for command in (
        "primia serve crypto-provider kit=kit-crypto-provider",
        "primia serve model-owner model=<run folder> kit=kit-model-owner",
        "primia infer server=diagnosis.example.org:443 data.root=<folder> kit=kit-clinic-a",
    ):
        assert command in out
    assert out.index("serve crypto-provider") < out.index("serve model-owner") < out.index("infer")


def test_every_kit_can_be_used_and_knows_whom_it_must(folder: Path) -> None:
    known = {
        kit: {str(peer) for peer in load_credentials(folder / kit).peers} for kit in sorted(KITS)
    }
    both = {"model-owner diagnosis", "crypto-provider diagnosis"}
    clinics = {"data-owner clinic-a", "data-owner clinic-b"}
    assert known == {
        "kit-model-owner": both | clinics,
        "kit-crypto-provider": both | clinics,
        "kit-clinic-a": both | {"data-owner clinic-a"},
        "kit-clinic-b": both | {"data-owner clinic-b"},
    }


def test_certificates_say_role_name_host_and_purpose(folder: Path) -> None:
    assert names(folder / "kit-model-owner" / "party.crt") == [
        "primia:service:model-owner:diagnosis",
        "diagnosis.example.org",
    ]
    assert names(folder / "kit-crypto-provider" / "party.crt")[1:] == ["10.0.0.7"]
    assert names(folder / "kit-clinic-a" / "party.crt") == [service_uri("data-owner", "clinic-a")]
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    for kit, expected in (
        ("kit-model-owner", {server, client}),
        ("kit-crypto-provider", {server}),
        ("kit-clinic-a", {client}),
    ):
        read = x509.load_pem_x509_certificate((folder / kit / "party.crt").read_bytes())
        assert set(read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == expected


def test_loopback_adds_its_names(tmp_path: Path) -> None:
    assert (
        call(COMMAND, [*ARGUMENTS, f"output={tmp_path / 'a'}", "loopback=true", "quiet=true"]) == 0
    )
    assert names(tmp_path / "a" / "kit-model-owner" / "party.crt")[1:] == [
        "diagnosis.example.org",
        "localhost",
        "127.0.0.1",
    ]


def test_keys_are_private_and_in_their_own_kit_alone(folder: Path) -> None:
    private = [*folder.rglob("*.key"), *folder.glob("*.zip")]
    assert len(private) == 1 + 4 + 4
    assert {stat.S_IMODE(file.stat().st_mode) for file in private} == {0o600}
    folders = [folder, *(folder / kit for kit in KITS)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    keys = {file.parent.name: file.read_bytes() for file in folder.rglob("*.key")}
    for kit in KITS:
        with zipfile.ZipFile(folder / f"{kit}.zip") as archive:
            files = {Path(entry.filename).name: archive.read(entry) for entry in archive.infolist()}
        software = {name for name in files if name.endswith(".whl")}
        assert len(software) == 1
        own = {"README.md", "ca.crt", "party.crt", "party.key", "peers.yaml"}
        assert files.keys() == own | software
        held = [name for name, key in keys.items() if key in files.values()]
        assert held == [kit]


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not here")
def test_an_unzipped_kit_can_be_used_at_once(folder: Path, tmp_path: Path) -> None:
    subprocess.run(["unzip", "-q", folder / "kit-clinic-a.zip"], cwd=tmp_path, check=True)
    assert load_credentials(tmp_path / "kit-clinic-a").own.name == "clinic-a"


def test_the_readme_has_the_command_and_the_fingerprints(folder: Path) -> None:
    for kit, command in (
        ("kit-crypto-provider", "primia serve crypto-provider kit=."),
        ("kit-model-owner", "primia serve model-owner model=<run folder> kit=."),
        ("kit-clinic-b", "primia infer server=diagnosis.example.org:9700 data.root=<folder> kit=."),
    ):
        text = (folder / kit / "README.md").read_text()
        assert f"\n       {command}\n" in text
        assert load_credentials(folder / kit).own.fingerprint in text
        assert "{" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model_owner=", "model_owner=''; expected the name or address"),
        ("crypto_provider='a b'", "crypto_provider='a b'; expected the name or address"),
        ("data_owners=[]", "data_owners=[]; expected at least one"),
        ("data_owners=[a,A]", "data_owners=['a', 'A']; expected different names"),
        ("data_owners=[model-owner]", "other than model-owner and crypto-provider"),
        ("data_owners=[../x]", "data_owners='../x'; expected 1 to 32 letters"),
        ("name='a/b'", "name='a/b'; expected 1 to 32 letters"),
        ("model_owner_port=0", "model_owner_port=0; expected a number"),
        ("days=0", "days=0; expected a number"),
    ],
)
def test_mistakes_get_one_sentence(
    change: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(COMMAND, [*ARGUMENTS, f"output={tmp_path / 'x'}", change]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert words in captured.err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "ca.key").read_bytes()
    assert call(COMMAND, [*ARGUMENTS, f"output={folder}"]) == 2
    assert "exists; expected a folder that does not exist yet" in capsys.readouterr().err
    assert (folder / "ca.key").read_bytes() == before


def test_conf_spells_the_dataclass_defaults() -> None:
    composed = parse(ProvisionServiceArguments, compose("commands/inference/provision"))
    assert composed == ProvisionServiceArguments()
