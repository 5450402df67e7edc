import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from primia_flwr.cli.command import call
from primia_flwr.cli.federation.provision import COMMAND
from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import certificate_fingerprint, fingerprint
from primia_flwr.provisioning.federation import Federation, Plan, provision, write_deployment
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.site.policy import load_policy

SITES = ["munich", "paris"]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    plan = Plan(name="fl", sites=SITES, server="fl.example.org", port=9391, min_sites=2)
    return provision(plan, tmp_path_factory.mktemp("provision") / "fl")


def test_server_certificate_is_signed_by_the_ca_for_its_names(federation: Federation) -> None:
    ca = x509.load_pem_x509_certificate(federation.files.ca.read_bytes())
    server = x509.load_pem_x509_certificate(federation.files.certificate.read_bytes())
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert federation.roster.ca_fingerprint == certificate_fingerprint(ca)


def test_without_loopback_only_the_server_is_named(tmp_path: Path) -> None:
    plan = Plan(name="fl", sites=["a"], server="10.0.0.7", port=1, loopback=False)
    files = provision(plan, tmp_path / "fl").files
    server = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["10.0.0.7"]


def test_each_site_has_its_own_p384_key(federation: Federation) -> None:
    keys = {
        site: load_ssh_private_key((kit / "supernode.key").read_bytes(), None)
        for site, kit in federation.kits.items()
    }
    assert all(isinstance(key, ec.EllipticCurvePrivateKey) for key in keys.values())
    assert {key.curve.name for key in keys.values()} == {"secp384r1"}  # type: ignore[union-attr]
    assert len({site.supernode_fingerprint for site in federation.roster.sites}) == 2
    assert len({site.identity_fingerprint for site in federation.roster.sites}) == 2


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not here")
def test_fingerprints_are_those_of_ssh_keygen(federation: Federation) -> None:
    file = federation.folder / "keys" / "munich.pub"
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(file)], capture_output=True, text=True, check=True
    )
    assert federation.roster.sites[0].supernode_fingerprint in shown.stdout


def test_kit_holds_its_own_private_keys_and_no_others(federation: Federation) -> None:
    common = {"README.md", "ca.crt", "identity.key", "roster.yaml", "site.yaml", "supernode.key"}
    private = {file: file.read_text() for file in federation.folder.rglob("*.key")}
    for site, kit in federation.kits.items():
        names = common | {f"primia-site-{site}.service"}
        assert {file.name for file in kit.iterdir()} == names
        with zipfile.ZipFile(kit.with_suffix(".zip")) as archive:
            entries = {Path(e.filename).name: e for e in archive.infolist()}
            texts = {name: archive.read(e).decode() for name, e in entries.items()}
        assert entries.keys() == names
        assert entries["supernode.key"].external_attr >> 16 & 0o777 == 0o600
        own = {kit / "supernode.key", kit / "identity.key"}
        for file, text in private.items():
            assert (text in texts.values()) == (file in own), (site, file)


def test_private_files_are_private(federation: Federation) -> None:
    for file in [*federation.folder.rglob("*.key"), *federation.folder.glob("*.zip")]:
        assert file.stat().st_mode & 0o777 == 0o600, file
    assert federation.folder.stat().st_mode & 0o777 == 0o700
    load_pem_private_key((federation.folder / "ca.key").read_bytes(), None)


def test_policy_of_a_kit_is_valid_and_allows_nothing(federation: Federation) -> None:
    policy = load_policy(federation.kits["munich"] / "site.yaml")
    assert (policy.site, policy.superlink) == ("munich", "fl.example.org:9391")
    assert policy.approved_bundles == policy.allowed_experiments == []
    assert policy.min_sites == 2
    for key in ("root_certificates", "supernode_key", "identity_key", "roster"):
        assert policy.path(getattr(policy, key)).is_file(), key


def test_roster_comes_back_and_a_wrong_fingerprint_is_named(
    federation: Federation, tmp_path: Path
) -> None:
    assert load_roster(federation.kits["paris"] / "roster.yaml") == federation.roster
    content = yaml.safe_load(federation.roster_file.read_text())
    content["sites"][1]["supernode_key"] = content["sites"][0]["supernode_key"]
    (tmp_path / "roster.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(FederationError, match="supernode_fingerprint of paris"):
        load_roster(tmp_path / "roster.yaml")
    (tmp_path / "roster.yaml").write_text("sites: 3")
    with pytest.raises(FederationError, match="cannot be read"):
        load_roster(tmp_path / "roster.yaml")
    with pytest.raises(FederationError, match="OpenSSH line"):
        fingerprint("ssh-rsa nonsense")


def test_nothing_is_overwritten(federation: Federation, tmp_path: Path) -> None:
    before = (federation.folder / "ca.key").read_bytes()
    with pytest.raises(FederationError, match="exists; expected a folder that does not exist"):
        provision(Plan(name="fl", sites=SITES, server="x", port=1), federation.folder)
    assert (federation.folder / "ca.key").read_bytes() == before
    file = write_deployment(federation, tmp_path)
    assert DeploymentConfig(**yaml.safe_load(file.read_text())).kind == "deployment"
    with pytest.raises(FederationError, match="exists; expected no deployment"):
        write_deployment(federation, tmp_path)


@pytest.mark.parametrize(
    ("sites", "name", "words"),
    [
        ([], "fl", r"sites=\[\]"),
        (["a", "A"], "fl", "different names"),
        (["../x"], "fl", r"sites='\.\./x'"),
        (["a"], "f l", "name='f l'"),
    ],
)
def test_wrong_names_are_refused(sites: list[str], name: str, words: str) -> None:
    with pytest.raises(FederationError, match=words):
        Plan(name=name, sites=sites, server="x", port=1)


def test_verb_prints_the_commands_and_refuses_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["sites=[munich,paris]", "server=fl.example.org"]
    assert call(COMMAND, arguments) == 0
    shown = capsys.readouterr().out
    assert "flower-superlink --host 0.0.0.0 --port 9391" in shown
    assert "--enable-supernode-auth" in shown
    assert "flower-superexec --runtime-api-address 127.0.0.1:9391" in shown
    assert "primia federation status name=fl register=true" in shown
    result = yaml.safe_load(shown.splitlines()[-1])
    assert Path(result["kits"]["paris"]).is_file()
    assert all("ExecStart=" in Path(unit).read_text() for unit in result["units"])
    assert call(COMMAND, arguments) == 2
    assert "name=fl; expected a new name" in capsys.readouterr().err
    assert call(COMMAND, ["sites=[a]", "name=two"]) == 2
    assert "server=''" in capsys.readouterr().err


def test_the_executors_secret_is_private_and_in_no_kit(federation: Federation) -> None:
    secret = federation.files.secret
    assert len(secret.read_bytes()) == 64
    assert secret.stat().st_mode & 0o777 == 0o600
    for kit in federation.kits.values():
        assert secret.name not in {file.name for file in kit.rglob("*")}


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"a: 2024-13-45", b"[" * 5000, b"sites: [{name: a}]", b"sites: 7", b"- a"],
)
def test_what_is_no_roster_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "roster.yaml"
    file.write_bytes(content)
    with pytest.raises(FederationError, match="cannot be read"):
        load_roster(file)


@pytest.mark.parametrize("key", ["5", "ssh-foo AAAA", "'ssh-ed25519 AAAA'", "[a]"])
def test_a_key_that_is_none_is_one_clear_error(
    federation: Federation, tmp_path: Path, key: str
) -> None:
    file = tmp_path / "roster.yaml"
    text = federation.roster_file.read_text().splitlines()
    at = next(i for i, line in enumerate(text) if "supernode_key:" in line)
    text[at] = f"  supernode_key: {key}"
    file.write_text("\n".join(text))
    with pytest.raises(FederationError):
        load_roster(file)
