"""A real federation on loopback: TLS, authentication, gates, and the faults it must survive."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w

from primia_flwr.errors import FederationError
from primia_flwr.flower.supernodes import LocalSite
from primia_flwr.messages.refusals import refusal_reason
from primia_flwr.provisioning.federation import Plan, provision
from primia_flwr.provisioning.nodes import node_states, runs_at, stop_run
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy
from primia_flwr.trials.loopback import LoopbackFederation, LoopbackSite
from tests.faults.crashes import kill_leader, kill_site, last_words
from tests.flower import light_app

pytestmark = pytest.mark.timeout(180)
EXPERIMENT = "name: trial\nfederation:\n  min_sites: 2\n"


PLAIN = {"require_secure_aggregation": False}  # the light app knows no secure aggregation


class Trial:
    """A running federation, the light app, and what its ServerApp reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = folder / "client-code-ran"
        self.app = light_app.write_app(folder, marker=self.marker)
        self.fab = light_app.build(self.app, folder)
        self.federation = LoopbackFederation(
            folder,
            [LoopbackSite(name, policy=PLAIN) for name in ("munich", "paris")],
            experiments=["trial"],
            min_sites=2,
        )
        self.runs = 0

    def submit(self, *, config: str = EXPERIMENT, rounds: int = 1, pause: float = 0.0) -> Path:
        self.runs += 1
        result = self.folder / f"result-{self.runs}.json"
        file = self.folder / f"run-{self.runs}.toml"
        values = {"config": config, "rounds": rounds, "pause": pause, "result": str(result)}
        file.write_text(tomli_w.dumps(values))
        light_app.start_run(self.app, self.federation.flower_home, file)
        return result

    def replies(self, result: Path, count: int) -> list[dict[str, object]]:
        wait_for(lambda: len(read(result)) >= count, what=f"{count} replies in {result}")
        return read(result)


def read(result: Path) -> list[dict[str, object]]:
    return list(json.loads(result.read_text())) if result.exists() else []


def wait_for(ready: Callable[[], bool], *, what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    trial = Trial(tmp_path_factory.mktemp("federation"))
    with trial.federation:
        yield trial


def events(trial: Trial, site: str) -> list[str]:
    log = load_policy(trial.federation.sites[site].policy_file).log_file
    return [entry.event for entry in SiteLog(log).entries()]


def test_registered_keys_name_the_nodes(trial: Trial) -> None:
    federation = trial.federation
    place = (
        federation.superlink.address,
        federation.root_certificates,
        federation.federation.roster,
    )
    states = node_states(*place)
    assert runs_at(*place[:2], "loopback") == {}
    with pytest.raises(FederationError, match="run 77 is unknown at superlink="):
        stop_run(*place[:2], "loopback", 77)
    assert [(s.site, s.status) for s in states] == [("munich", "online"), ("paris", "online")]
    assert {s.site: s.node_id for s in states} == federation.nodes
    assert len(set(federation.nodes.values())) == 2


def test_unapproved_bundle_is_refused_with_its_reason_then_approved_and_run(trial: Trial) -> None:
    digest = light_app.digest(trial.fab)
    refused = trial.replies(trial.submit(), 2)
    for reply in refused:
        sentence = refusal_reason(str(reply["error"]))
        assert sentence is not None
        assert f"bundle {digest} is not approved here" in sentence
    assert not trial.marker.exists(), "code of a refused bundle ran"
    assert events(trial, "munich") == ["started", "request", "stored", "refused", "left"]

    trial.federation.sites["munich"].approve(trial.fab)
    by_node = {r["node"]: r for r in trial.replies(trial.submit(), 2)}
    munich, paris = (by_node[trial.federation.nodes[name]] for name in ("munich", "paris"))
    assert munich["sum"] == 8.0  # four ones, doubled
    assert munich["package"] == "bundle", "the bundle's own copy of the package must run"
    assert refusal_reason(str(paris["error"])) is not None
    assert events(trial, "munich")[-4:] == ["approved", "request", "accepted", "left"]


@pytest.mark.slow
def test_other_experiment_and_too_few_sites_are_refused(trial: Trial) -> None:
    trial.federation.approve(trial.fab)
    first = trial.submit(config="name: other\nfederation: {min_sites: 2}\n")
    second = trial.submit(config="name: trial\nfederation: {min_sites: 1}\n")
    for reply in trial.replies(first, 2):
        assert "experiment 'other'; allowed here: trial" in str(reply["error"])
    for reply in trial.replies(second, 2):
        assert "federation.min_sites=1; expected at least 2" in str(reply["error"])


@pytest.mark.system
def test_unregistered_key_and_wrong_authority_end_with_one_sentence(
    trial: Trial, tmp_path: Path
) -> None:
    port = trial.federation.port
    unregistered, misled = make_kit(tmp_path / "a", port), make_kit(tmp_path / "b", port)
    (unregistered.kit / "ca.crt").write_bytes(trial.federation.root_certificates.read_bytes())
    unregistered.start()
    misled.start()
    try:
        assert "is not registered at" in last_words(unregistered)
        assert "did not sign" in last_words(misled)
    finally:
        unregistered.stop()
        misled.stop()


def test_port_in_use_is_one_clear_error(trial: Trial, tmp_path: Path) -> None:
    second = LoopbackFederation(tmp_path, [LoopbackSite("a")], port=trial.federation.port)
    with pytest.raises(FederationError, match=rf"port={trial.federation.port}; expected a free"):
        second.start()
    second.stop()


@pytest.mark.system
def test_server_app_survives_kill_9_of_the_superlink(trial: Trial) -> None:
    trial.federation.approve(trial.fab)
    result = trial.submit(rounds=2, pause=1.0)
    trial.replies(result, 2)
    kill_leader(trial.federation.superlink._link)
    time.sleep(1)
    trial.federation.superlink.start_link()
    replies = trial.replies(result, 4)
    sums = sorted((int(str(r["round"])), r["sum"]) for r in replies if not r["error"])
    assert sums[-2:] == [(2, 16.0), (2, 16.0)]  # four twos, doubled


@pytest.mark.slow
def test_killed_site_leaves_no_process_and_comes_back(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    with trial.federation as federation:
        federation.approve(trial.fab)
        kill_site(federation.sites["paris"])
        wait_for(lambda: not processes_below(federation.sites["paris"].kit), what="end of paris")
        federation.sites["paris"].start()
        federation.sites["paris"].wait_connected()
        replies = trial.replies(trial.submit(), 2)
        assert sorted(str(r["error"]) for r in replies) == ["", ""]
    assert not processes_below(tmp_path)


def make_kit(folder: Path, port: int) -> LocalSite:
    plan = Plan(name="strange", sites=["stranger"], server="127.0.0.1", port=port)
    federation = provision(plan, folder / "strange")
    return LocalSite("stranger", federation.kits["stranger"])


def processes_below(folder: Path) -> list[str]:
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if str(folder) in line]
