"""Who this site is in secure aggregation: identity, roster, floor, journal and vault.

Imports no torch, because most of the protocol's messages need none.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from primia_flwr.config.load import load_experiment
from primia_flwr.config.schema import Experiment
from primia_flwr.errors import ConfigError
from primia_flwr.federation.identities import load_identity, roster_keys, simulated_keys
from primia_flwr.federation.secure_records import degree_of, floor_of, session_of
from primia_flwr.secagg.journal import Journal
from primia_flwr.secagg.parties import Floor, Member
from primia_flwr.secagg.vault import Vault
from primia_flwr.site.policy import SitePolicy, load_policy


@dataclass(frozen=True)
class SecureSite:
    """A site that is ready for the protocol.

    `folder`: private to the site, shared by all runs. `count_digits`: significant digits of the
    image count that it puts into a sum. `allow_other_survivors`: see `Journal`. `simulated`:
    on the researcher's own machine, where the sums may be audited.
    """

    member: Member
    experiment: Experiment
    folder: Path
    count_digits: int = 2
    allow_other_survivors: bool = False
    simulated: bool = False

    @property
    def name(self) -> str:
        """The site's name."""
        return self.member.name

    @property
    def vault(self) -> Vault:
        """The instances of this run."""
        folder = self.folder / f"run-{self.member.session.run}"
        return Vault(folder, self.member, degree=degree_of(self.experiment))

    @contextmanager
    def exclusive(self) -> Iterator[Journal]:
        """Keep every other process of this site out of vault and journal, whatever its run.

        Two requests at the same time could otherwise both find that nothing was answered yet.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            journal = self.folder / "answered.jsonl"
            yield Journal(journal, allow_other_list=self.allow_other_survivors)


@lru_cache(maxsize=4)
def experiment_of(text: str) -> Experiment:
    """Return the experiment of a run-config's text; parsed once a process."""
    return load_experiment(text)


def open_member(context: Context) -> SecureSite:
    """Open the site that this node stands for.

    Raises
    ------
    ConfigError
        If the run has no secure aggregation, or the node says neither which partition nor which
        site it is.
    FederationError
        If the identity or the roster cannot be read.
    """
    experiment = experiment_of(str(context.run_config.get("config", "")))
    if not experiment.strategy.secure.enabled or not experiment.strategy.secure.run:
        raise ConfigError(
            "strategy.secure.enabled=false, yet the coordinator asks for secure aggregation; "
            "expected strategy=secagg"
        )
    node = context.node_config
    if "partition-id" in node:
        return _simulated(experiment, int(node["partition-id"]))
    if "site-file" in node:
        return _deployed(experiment, Path(str(node["site-file"])))
    raise ConfigError(
        f"node-config={dict(node)}; expected partition-id (simulation) or site-file (a site's "
        "own file); start the SuperNode with primia site run"
    )


def _simulated(experiment: Experiment, index: int) -> SecureSite:
    name, run_dir = experiment.federation.sites[index], Path(experiment.output_dir)
    folder = run_dir / "sites" / name
    identity = load_identity(folder / "identity.key")
    session = session_of(experiment, simulated_keys(run_dir))
    member = Member(name, identity, session, floor_of(experiment))
    return SecureSite(member, experiment, folder, simulated=True)


def _deployed(experiment: Experiment, site_file: Path) -> SecureSite:
    policy = load_policy(site_file)
    identity = load_identity(policy.path(policy.identity_key))
    session = session_of(experiment, roster_keys(policy.path(policy.roster)))
    floor = _floor(policy, experiment)
    member = Member(policy.site, identity, session, floor)
    return SecureSite(
        member,
        experiment,
        policy.state_folder / "secagg",
        count_digits=policy.count_digits,
        allow_other_survivors=policy.allow_other_survivors,
    )


def _floor(policy: SitePolicy, experiment: Experiment) -> Floor:
    """Return what this site insists on: its own policy, or more where the run asks for more."""
    asked = experiment.strategy.secure
    colluding = max(policy.max_colluding, asked.max_colluding)
    two = policy.accept_two and asked.accept_two
    least = max(policy.min_survivors, asked.min_survivors, 2 if two else max(3, colluding + 2))
    return Floor(least, colluding, two)
