"""`primia site check`: the roster by whose keys a site believes signatures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from primia_flwr.cli.site.check import check_roster
from primia_flwr.provisioning.certificates import certificate_fingerprint, make_authority
from primia_flwr.provisioning.federation import Federation, Plan, provision
from primia_flwr.provisioning.renewal import load_authority, renewed_authority, take_in_ca
from primia_flwr.provisioning.roster import Roster
from primia_flwr.site.policy import SitePolicy, load_policy


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    plan = Plan(name="fl", sites=["munich", "paris"], server="127.0.0.1", port=9391)
    return provision(plan, tmp_path / "fl")


@pytest.fixture
def policy(federation: Federation) -> SitePolicy:
    return load_policy(federation.kits["munich"] / "site.yaml")


def _write(policy: SitePolicy, roster: Roster) -> None:
    policy.path(policy.roster).write_text(roster.to_yaml())


def test_the_fingerprints_of_all_sites_are_shown(
    federation: Federation, policy: SitePolicy
) -> None:
    finding = check_roster(policy)
    assert finding.ok
    for site in federation.roster.sites:
        assert f"{site.name} {site.identity_fingerprint}" in finding.found


def test_another_identity_than_its_own_is_found(federation: Federation, policy: SitePolicy) -> None:
    munich, paris = federation.roster.sites
    _write(policy, replace(federation.roster, sites=(replace(paris, name="munich"),)))
    finding = check_roster(policy)
    assert not finding.ok
    assert paris.identity_fingerprint in finding.found
    assert munich.identity_fingerprint in finding.found


def test_another_supernode_key_than_its_own_is_found(
    federation: Federation, policy: SitePolicy
) -> None:
    paris = federation.kits["paris"] / "supernode.key"
    policy.path(policy.supernode_key).write_bytes(paris.read_bytes())
    finding = check_roster(policy)
    assert not finding.ok
    munich, other = federation.roster.sites
    assert f"has {munich.supernode_fingerprint} for munich" in finding.found
    assert f"supernode_key is {other.supernode_fingerprint}" in finding.found


def test_one_identity_for_two_sites_is_found(federation: Federation, policy: SitePolicy) -> None:
    munich, _ = federation.roster.sites
    twice = (munich, replace(munich, name="paris"))
    _write(policy, replace(federation.roster, sites=twice))
    assert "two sites the same identity" in check_roster(policy).found


def test_a_certificate_of_another_ca_than_the_rosters_is_found(
    federation: Federation, policy: SitePolicy
) -> None:
    other = make_authority("fl", days=10).certificate
    policy.path(policy.root_certificates).write_bytes(other.public_bytes(Encoding.PEM))
    finding = check_roster(policy)
    assert not finding.ok
    assert f"has the CA {federation.roster.ca_fingerprint}; root_certificates=" in finding.found
    assert finding.found.endswith(f"ca.crt is {certificate_fingerprint(other)}")
    policy.path(policy.root_certificates).write_text("none")
    assert "ca.crt cannot be read" in check_roster(policy).found


def test_a_renewed_certificate_that_was_taken_in_is_the_rosters(
    federation: Federation, policy: SitePolicy, tmp_path: Path
) -> None:
    renewed = renewed_authority(load_authority(federation.folder), days=40)
    (tmp_path / "ca.crt").write_bytes(renewed.public_bytes(Encoding.PEM))
    ca_file = policy.path(policy.root_certificates)
    take_in_ca(tmp_path / "ca.crt", ca_file, policy.path(policy.roster))
    assert check_roster(policy).ok
    _write(policy, federation.roster)  # only one of the two files was renewed
    assert not check_roster(policy).ok


def test_a_roster_without_this_site_and_no_roster_are_named(
    federation: Federation, policy: SitePolicy
) -> None:
    _write(policy, replace(federation.roster, sites=federation.roster.sites[1:]))
    assert "has nothing for munich" in check_roster(policy).found
    policy.path(policy.roster).unlink()
    assert "cannot be read" in check_roster(policy).found
