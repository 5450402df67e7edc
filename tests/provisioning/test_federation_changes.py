from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from primia_flwr.errors import FederationError
from primia_flwr.processes.children import free_port
from primia_flwr.provisioning import renewal
from primia_flwr.provisioning.certificates import certificate_fingerprint
from primia_flwr.provisioning.federation import Federation, Plan, provision
from primia_flwr.provisioning.federation_changes import FederationFolder
from primia_flwr.provisioning.renewal import load_authority, take_in_ca
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.provisioning.roster_changes import compare, take_in
from primia_flwr.site.policy import load_policy
from primia_flwr.site.validity import AT_SITE, check_endings, superlink_ending
from primia_flwr.storage.atomic import write_atomic
from tests.provisioning.shown_certificate import shown_certificate

DAY = timedelta(days=1)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    plan = Plan("fl", ["munich", "paris", "london"], "127.0.0.1", free_port())
    return provision(plan, tmp_path / "fl")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(f): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_site_more_has_a_kit_and_the_others_keep_their_keys(federation: Federation) -> None:
    folder, before = FederationFolder(federation.folder), federation.roster
    kits = folder.add(["rome"], min_sites=3)
    assert kits == {"rome": federation.folder / "kit-rome.zip"}
    after = load_roster(federation.roster_file)
    assert after.names() == ["munich", "paris", "london", "rome"]
    assert after.sites[:3] == before.sites
    assert after.ca_fingerprint == before.ca_fingerprint
    kit = federation.folder / "kit-rome"
    assert load_roster(kit / "roster.yaml") == after
    assert (load_policy(kit / "site.yaml").site, load_policy(kit / "site.yaml").min_sites) == (
        "rome",
        3,
    )
    assert (kit / "ca.crt").read_bytes() == federation.files.ca.read_bytes()
    assert {f.stat().st_mode & 0o777 for f in kit.glob("*.key")} == {0o600}
    assert (kit.with_suffix(".zip").stat().st_mode & 0o777) == 0o600


@pytest.mark.parametrize(
    ("verb", "sites", "words"),
    [
        ("add", ["paris"], "is on the roster already"),
        ("add", ["PARIS"], "is on the roster already"),
        ("add", ["rome", "Rome"], r"sites=\[rome,Rome\]; expected different names"),
        ("add", ["rome", "rome"], r"sites=\[rome,rome\]; expected different names"),
        ("add", ["../rome"], "expected 1 to 32 letters"),
        ("add", [], r"sites=\[\]; expected"),
        ("reissue", ["rome"], r"sites=\[rome\]; expected sites of the roster: munich"),
        ("reissue", ["paris"], "kit-paris exists; expected no kit"),
        ("revoke", ["rome"], "expected sites of the roster"),
        ("revoke", [], "expected sites of the roster"),
        ("revoke", ["munich", "paris", "london"], "expected one that stays"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(
    federation: Federation, verb: str, sites: list[str], words: str
) -> None:
    folder, before = FederationFolder(federation.folder), everything(federation.folder)
    further = {} if verb == "revoke" else {"min_sites": 2}
    with pytest.raises(FederationError, match=words):
        getattr(folder, verb)(sites, **further)
    assert everything(federation.folder) == before


def test_two_changes_at_once_do_not_undo_one_another(federation: Federation) -> None:
    first, second = FederationFolder(federation.folder), FederationFolder(federation.folder)
    first.add(["rome"], min_sites=2)
    with pytest.raises(FederationError, match="was changed meanwhile"):
        second.add(["oslo"], min_sites=2)
    assert load_roster(federation.roster_file).names()[-1] == "rome"
    assert not (federation.folder / "kit-oslo").exists()


def test_a_reissued_site_has_other_keys_and_its_old_one_is_revoked(federation: Federation) -> None:
    kit, old = federation.kits["paris"], federation.roster.sites[1]
    kit.rename(kit.with_name("handed-over"))
    kit.with_suffix(".zip").unlink()
    folder = FederationFolder(federation.folder)
    folder.reissue(["paris"], min_sites=2)
    new = load_roster(federation.roster_file).sites[1]
    assert new.name == "paris"
    assert new.supernode_key != old.supernode_key
    assert new.identity_key != old.identity_key
    assert folder.revoked_keys() == [old.supernode_key]
    assert (federation.folder / "keys" / "paris.pub").read_text().strip() == new.supernode_key


def test_a_revoked_site_is_off_the_roster_and_its_key_remembered(federation: Federation) -> None:
    folder, gone = FederationFolder(federation.folder), federation.roster.sites[2]
    folder.revoke(["london"])
    assert load_roster(federation.roster_file).names() == ["munich", "paris"]
    assert folder.revoked_keys() == [gone.supernode_key]
    assert not (federation.folder / "keys" / "london.pub").exists()
    (kit := federation.kits["london"]).rename(kit.with_name("theirs"))
    kit.with_suffix(".zip").unlink()
    folder.add(["london"], min_sites=2)  # comes back, with other keys
    assert folder.roster.sites[-1].supernode_key not in folder.revoked_keys()


def test_a_renewed_certificate_is_for_the_same_key_and_names(federation: Federation) -> None:
    old = x509.load_pem_x509_certificate(federation.files.certificate.read_bytes())
    ca = federation.files.ca.read_bytes()
    renewed = FederationFolder(federation.folder).renew(days=100)
    new = x509.load_pem_x509_certificate(federation.files.certificate.read_bytes())
    assert renewed.certificate == new
    assert renewed.ca is None
    assert federation.files.ca.read_bytes() == ca
    assert new.public_key() == old.public_key()
    assert new.serial_number != old.serial_number
    assert [e.value for e in new.extensions] == [e.value for e in old.extensions]
    assert abs(new.not_valid_after_utc - datetime.now(UTC) - 100 * DAY) < timedelta(minutes=5)
    new.verify_directly_issued_by(x509.load_pem_x509_certificate(ca))


def test_the_ca_outlives_what_it_signs(federation: Federation) -> None:
    ca = x509.load_pem_x509_certificate(federation.files.ca.read_bytes())
    server = x509.load_pem_x509_certificate(federation.files.certificate.read_bytes())
    assert ca.not_valid_after_utc - server.not_valid_after_utc > 2900 * DAY


def test_a_ca_that_ends_is_renewed_and_taken_in_where_its_key_is_known(
    federation: Federation, tmp_path: Path
) -> None:
    files, kit = federation.files, federation.kits["munich"]
    shorten_ca(federation, days=3)
    folder = FederationFolder(federation.folder)
    assert "root_certificates" in check_endings("127.0.0.1:1", kit / "ca.crt", AT_SITE)[0]
    renewed = folder.renew(days=730)
    assert renewed.ca is not None
    mark = certificate_fingerprint(renewed.ca)
    assert load_roster(federation.roster_file).ca_fingerprint == mark
    old = x509.load_pem_x509_certificate((kit / "ca.crt").read_bytes())
    renewed.certificate.verify_directly_issued_by(old)  # sites that wait are not shut out
    take_in_ca(files.ca, kit / "ca.crt", kit / "roster.yaml")
    assert (kit / "ca.crt").read_bytes() == files.ca.read_bytes()
    assert load_roster(kit / "roster.yaml").ca_fingerprint == mark
    assert check_endings("127.0.0.1:1", kit / "ca.crt", AT_SITE) == []
    other = provision(Plan("fl", ["a"], "127.0.0.1", 9), tmp_path / "other")
    before = everything(kit)
    for file, words in [
        (other.files.ca, "it is another CA, [0-9A-F:]{95}, which this site has no reason"),
        (files.certificate, "it is another CA"),
        (files.key, "cannot be read"),
        (tmp_path / "nothing", "No such file"),
    ]:
        with pytest.raises(FederationError, match=words):
            take_in_ca(file, kit / "ca.crt", kit / "roster.yaml")
    assert everything(kit) == before


def test_no_key_or_another_ones_renews_nothing(federation: Federation, tmp_path: Path) -> None:
    key = federation.folder / "ca.key"
    kept = key.read_bytes()
    key.unlink()
    before = everything(federation.folder)
    folder = FederationFolder(federation.folder)
    with pytest.raises(FederationError, match=r"ca\.key .*bring it back from where you keep it"):
        folder.renew(days=9)
    other = provision(Plan("x", ["a"], "127.0.0.1", 9), tmp_path / "other").folder / "ca.key"
    write_atomic(key, other.read_bytes(), mode=0o600)
    with pytest.raises(FederationError, match="it is the key of another certificate"):
        folder.renew(days=9)
    write_atomic(key, kept, mode=0o644)
    with pytest.raises(FederationError, match="chmod 600"):
        folder.renew(days=9)
    key.unlink()
    assert everything(federation.folder) == before


def shorten_ca(federation: Federation, *, days: int) -> None:
    """As a federation whose CA was made for `days` days, with all kits."""
    certificate = renewal.renewed_authority(load_authority(federation.folder), days=days)
    pem = certificate.public_bytes(renewal.Encoding.PEM)
    mark = certificate_fingerprint(certificate)
    for folder in (federation.folder, *federation.kits.values()):
        (folder / "ca.crt").write_bytes(pem)
        text = (folder / "roster.yaml").read_text()
        (folder / "roster.yaml").write_text(text.replace(federation.roster.ca_fingerprint, mark))


def test_a_changed_roster_comes_in_only_with_every_fingerprint_and_leaver(
    federation: Federation,
) -> None:
    kit = federation.kits["munich"]
    own, folder = kit / "roster.yaml", FederationFolder(federation.folder)
    folder.add(["rome"], min_sites=2)
    folder.revoke(["paris"])
    change = compare(federation.roster_file, own, own="munich")
    rome = folder.roster.sites[-1].identity_fingerprint
    assert (change.came, change.left) == ({"rome": rome}, ("paris",))
    before = own.read_bytes()
    for compared, left in [
        ([], []),
        ([rome], []),
        ([], ["paris"]),
        ([rome, rome], ["paris"]),
        ([rome], ["paris", "london"]),
        ([federation.roster.sites[0].identity_fingerprint], ["paris"]),
    ]:
        with pytest.raises(FederationError, match="and no others"):
            take_in(change, own, compared=compared, left=left)
    assert own.read_bytes() == before
    take_in(change, own, compared=[rome], left=["paris"])
    assert load_roster(own) == folder.roster


def test_a_roster_of_others_or_with_another_self_is_refused(
    federation: Federation, tmp_path: Path
) -> None:
    own = federation.kits["munich"] / "roster.yaml"
    other = provision(Plan("fl", ["munich"], "127.0.0.1", 9), tmp_path / "other")
    with pytest.raises(FederationError, match=r"take in a renewed ca\.crt first"):
        compare(other.roster_file, own, own="munich")
    for name in ("kit-munich", "kit-munich.zip"):
        (federation.folder / name).rename(tmp_path / name)
    own = tmp_path / "kit-munich" / "roster.yaml"
    FederationFolder(federation.folder).reissue(["munich"], min_sites=2)
    with pytest.raises(FederationError, match="for munich, this site itself; expected SHA256:"):
        compare(federation.roster_file, own, own="munich")
    FederationFolder(federation.folder).revoke(["munich"])
    with pytest.raises(FederationError, match="has no identity for munich"):
        compare(federation.roster_file, own, own="munich")


def test_an_expired_certificate_is_named_with_since_when_and_the_command(
    federation: Federation,
) -> None:
    address, ca = federation.roster.superlink, federation.files.ca
    now = datetime.now(UTC)
    with shown_certificate(federation, days=-1):
        with pytest.raises(FederationError) as found:
            check_endings(address, ca, AT_SITE)
        assert str(found.value).startswith(
            f"the certificate of superlink={address} expired on {now - DAY:%Y-%m-%d}"
        )
        assert "(1 day ago); ask the coordinator to run `primia federation renew`" in str(
            found.value
        )
    with shown_certificate(federation, days=29):
        (warning,) = check_endings(address, ca, AT_SITE)
        assert "in 28 days" in warning
        early = superlink_ending(address, ca, AT_SITE, now=now - 40 * DAY)
        assert early is not None
        assert (early.over, "set the clocks" in early.remedy) == (True, True)
    with shown_certificate(federation, days=31):
        assert check_endings(address, ca, AT_SITE) == []


def test_a_stranger_on_the_port_is_not_called_expired(
    federation: Federation, tmp_path: Path
) -> None:
    port = int(federation.roster.superlink.rpartition(":")[2])
    other = provision(Plan("fl", ["a"], "127.0.0.1", port), tmp_path / "other")
    with shown_certificate(other, days=-1):
        assert check_endings(federation.roster.superlink, federation.files.ca, AT_SITE) == []
