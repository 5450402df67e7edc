"""Identities that sites make themselves, and how they come into the rosters."""

from __future__ import annotations

from pathlib import Path

import pytest

from primia_flwr.cli.main import run
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import fingerprint, public_line_of
from primia_flwr.provisioning.federation import Federation, Plan, provision
from primia_flwr.provisioning.own_identities import renew, trust
from primia_flwr.provisioning.roster import load_roster


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    plan = Plan(name="fl", sites=["munich", "paris"], server="127.0.0.1", port=9391)
    return provision(plan, tmp_path / "fl")


def _identity(roster: Path, site: str) -> str:
    return {s.name: s.identity_fingerprint for s in load_roster(roster).sites}[site]


def test_a_new_identity_is_in_key_file_own_roster_and_public_file(federation: Federation) -> None:
    kit = federation.kits["munich"]
    before = (kit / "identity.key").read_bytes()
    adopted, public = renew(kit / "identity.key", kit / "roster.yaml", "munich")
    assert (kit / "identity.key").read_bytes() != before
    assert (kit / "identity.key").stat().st_mode & 0o777 == 0o600
    own = fingerprint(public_line_of(kit / "identity.key"))
    assert own == adopted.now == _identity(kit / "roster.yaml", "munich")
    assert fingerprint(public.read_text()) == own != adopted.before
    # until the others trust it, they have the old one
    assert _identity(federation.kits["paris"] / "roster.yaml", "munich") == adopted.before


def test_the_others_adopt_it(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    munich, paris = (federation.kits[name] for name in ("munich", "paris"))
    assert run(["site", "identity", f"site={munich}/site.yaml", "new=true"]) == 0
    public = munich / "munich.pub"
    assert run(["site", "identity", f"site={paris}/site.yaml", f"trust=[{public}]"]) == 0
    trust(federation.roster_file, public)
    new = fingerprint(public.read_text())
    for roster in (paris / "roster.yaml", federation.roster_file):
        assert _identity(roster, "munich") == new
    assert new in capsys.readouterr().out


def _line(federation: Federation, site: str, comment: str) -> str:
    kind, key = public_line_of(federation.kits[site] / "identity.key").split()[:2]
    return f"{kind} {key} {comment}\n"


@pytest.mark.parametrize(
    ("comment", "own", "words"),
    [
        ("paris-identity", "", "is that of munich already"),
        ("rome-identity", "", "no site 'rome'; expected one of munich, paris"),
        ("munich-identity", "munich", "this site itself"),
        ("munich", "", "expected one line"),
        ("a b-identity", "", "expected one line"),
    ],
)
def test_what_is_not_another_sites_identity_is_refused(
    federation: Federation, tmp_path: Path, comment: str, own: str, words: str
) -> None:
    public = tmp_path / "some.pub"
    public.write_text(_line(federation, "munich", comment))
    before = federation.roster_file.read_bytes()
    with pytest.raises(FederationError, match=words):
        trust(federation.roster_file, public, own=own)
    assert federation.roster_file.read_bytes() == before


@pytest.mark.parametrize("content", ["", "ssh-ed25519 AAAA munich-identity", "hello"])
def test_what_is_no_key_is_refused(federation: Federation, tmp_path: Path, content: str) -> None:
    public = tmp_path / "some.pub"
    public.write_text(content)
    with pytest.raises(FederationError, match=r"some\.pub .*expected one line"):
        trust(federation.roster_file, public)


def test_another_kind_of_key_is_refused(federation: Federation, tmp_path: Path) -> None:
    public = tmp_path / "some.pub"
    key = public_line_of(federation.kits["paris"] / "supernode.key").strip()
    public.write_text(f"{key} paris-identity\n")
    with pytest.raises(FederationError, match="no Ed25519 key"):
        trust(federation.roster_file, public)


def test_a_site_that_is_not_on_the_roster_keeps_its_key(federation: Federation) -> None:
    kit = federation.kits["munich"]
    before = (kit / "identity.key").read_bytes()
    with pytest.raises(FederationError, match="no site 'rome'"):
        renew(kit / "identity.key", kit / "roster.yaml", "rome")
    assert (kit / "identity.key").read_bytes() == before


def test_a_public_file_that_is_not_there_is_named_with_the_command(
    federation: Federation, tmp_path: Path
) -> None:
    roster = federation.kits["munich"] / "roster.yaml"
    before = roster.read_bytes()
    with pytest.raises(FederationError) as found:
        trust(roster, tmp_path / "paris.pub", own="munich")
    assert str(found.value) == (
        f"trust={tmp_path / 'paris.pub'} is not there; expected the public file of another site; "
        "its hospital writes it with `primia site identity new=true` and sends it to you"
    )
    assert roster.read_bytes() == before
