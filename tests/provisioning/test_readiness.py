from dataclasses import replace
from pathlib import Path

import pytest

from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment, config_hash
from primia_flwr.errors import FederationError
from primia_flwr.processes.children import free_port
from primia_flwr.provisioning import readiness
from primia_flwr.provisioning.federation import Federation, Plan, provision
from primia_flwr.provisioning.federation_changes import FederationFolder
from primia_flwr.provisioning.nodes import runs_at
from primia_flwr.site.members import members_digest
from tests.provisioning.test_federation_changes import shorten_ca

NAMES = ["munich", "paris", "london", "rome"]


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return provision(Plan("fl", NAMES, "127.0.0.1", 9), tmp_path / "fl")


@pytest.fixture
def experiment(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    def registered(_: str, __: Path, roster) -> dict[str, int]:
        return {name: [*NAMES, "oslo"].index(name) + 10 for name in roster.names()}

    monkeypatch.setattr(readiness, "registered_nodes", registered)
    deployment = DeploymentConfig(
        name="fl",
        kind="deployment",
        superlink="127.0.0.1:9",
        root_certificates=str(federation.files.ca),
        roster=str(federation.roster_file),
    )
    return replace(compose_experiment(), deployment=deployment)


def of_sites(experiment: Experiment, *sites: str, resume: str = "") -> Experiment:
    federation = replace(experiment.federation, sites=list(sites))
    return replace(experiment, federation=federation, resume=resume)


def test_a_new_run_has_the_whole_roster_or_the_sites_that_are_named(
    experiment: Experiment,
) -> None:
    assert experiment.federation.sites == FederationConfig().sites
    found = readiness.with_roster(experiment)
    assert found.federation.sites == NAMES
    assert found.deployment.nodes == dict(zip(NAMES, (10, 11, 12, 13), strict=True))
    some = readiness.with_roster(of_sites(experiment, "rome", "munich", "london"))
    assert some.federation.sites == ["munich", "london", "rome"]
    assert some.deployment.nodes == {"munich": 10, "london": 12, "rome": 13}
    with pytest.raises(FederationError, match="names oslo; expected sites of the roster"):
        readiness.with_roster(of_sites(experiment, "munich", "paris", "oslo"))


def test_a_resumed_run_goes_on_with_its_sites_that_are_still_there(
    experiment: Experiment, federation: Federation
) -> None:
    begun = readiness.with_roster(of_sites(experiment, *NAMES))
    FederationFolder(federation.folder).revoke(["paris"])
    before = replace(begun, resume="outputs/a")
    after = readiness.with_roster(before)
    assert after.federation.sites == ["munich", "london", "rome"]
    assert config_hash(after) == config_hash(begun)
    assert readiness.roster_notes(before, after) == [
        "paris left the roster; the run goes on with munich, london, rome"
    ]
    three = of_sites(before, "munich", "london", "rome", resume="outputs/a")
    FederationFolder(federation.folder).add(["oslo"], min_sites=2)
    after = readiness.with_roster(three)
    assert after.federation.sites == ["munich", "london", "rome"]
    assert readiness.roster_notes(three, after) == [
        "oslo came to the roster since; not in this run, in the next"
    ]


def test_a_certificate_that_ends_soon_is_said_when_a_run_begins(
    experiment: Experiment, federation: Federation
) -> None:
    found = readiness.with_roster(experiment)
    assert readiness.roster_notes(experiment, found) == []
    shorten_ca(federation, days=9)
    (note,) = readiness.roster_notes(experiment, found)
    assert f"root_certificates={federation.files.ca} ends on " in note
    assert "run primia federation renew name=fl" in note


def test_too_few_that_stay_are_named(experiment: Experiment, federation: Federation) -> None:
    FederationFolder(federation.folder).revoke(["paris", "rome"])
    begun = of_sites(experiment, "munich", "paris", "rome", resume="outputs/a")
    with pytest.raises(
        FederationError, match=r"1 of the run's sites are registered .*\(paris, rome left"
    ):
        readiness.with_roster(begun)


def test_a_shared_noise_needs_all_its_sites(experiment: Experiment, federation: Federation) -> None:
    FederationFolder(federation.folder).revoke(["paris"])
    begun = of_sites(experiment, *NAMES, resume="outputs/a")
    begun.privacy.mode = "dp_aggregate"
    with pytest.raises(FederationError, match="paris left the roster; expected all sites"):
        readiness.with_roster(begun)


def test_the_members_are_those_of_the_whole_roster(
    experiment: Experiment, federation: Federation
) -> None:
    keys = {site.name: site.identity_key for site in federation.roster.sites}
    found = readiness.with_roster(of_sites(experiment, "rome", "munich", "london"))
    assert found.deployment.members == members_digest(keys)
    assert members_digest({**keys, "rome": keys["paris"]}) != members_digest(keys)
    with pytest.raises(FederationError, match=r"the identity of rome .*expected an Ed25519 key"):
        members_digest({**keys, "rome": federation.roster.sites[0].supernode_key})


def test_a_simulation_is_another_experiment_with_other_sites() -> None:
    one, other = compose_experiment(), compose_experiment(["federation.sites=[a,b,c]"])
    assert config_hash(one) != config_hash(other)


def test_a_proxy_on_the_way_to_the_superlink_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(name="fl", sites=["munich"], server="fl.example.org", port=9391)
    ca = provision(plan, tmp_path / "fl").files.ca
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy}")
    words = rf"superlink=fl.example.org:9391 cannot be reached through the proxy {proxy} of HTTPS_P"
    with pytest.raises(FederationError, match=words):
        runs_at("fl.example.org:9391", ca, "fl")
