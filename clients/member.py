"""Who this site is in secure aggregation: identity, roster, floor, journal and vault.

Imports no torch, because most of the protocol's messages need none.
"""

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

    `count_digits`: significant digits of the image count that it puts into a sum.
    """

    member: Member
    experiment: Experiment
    vault: Vault
    journal: Journal
    count_digits: int

    @property
    def name(self) -> str:
        """The site's name."""
        return self.member.name


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
    return _deployed(experiment, Path(str(node["site-file"])))


def _simulated(experiment: Experiment, index: int) -> SecureSite:
    name, run_dir = experiment.federation.sites[index], Path(experiment.output_dir)
    folder = run_dir / "sites" / name
    identity = load_identity(folder / "identity.key")
    session = session_of(experiment, simulated_keys(run_dir))
    member = Member(name, identity, session, floor_of(experiment))
    journal = Journal(folder / "answered.jsonl")
    return _ready(experiment, member, folder, journal, count_digits=2)


def _deployed(experiment: Experiment, site_file: Path) -> SecureSite:
    policy = load_policy(site_file)
    identity = load_identity(policy.path(policy.identity_key))
    session = session_of(experiment, roster_keys(policy.path(policy.roster)))
    floor = _floor(policy, experiment)
    member = Member(policy.site, identity, session, floor)
    folder = policy.state_folder / "secagg"
    journal = Journal(folder / "answered.jsonl", allow_other_list=policy.allow_other_survivors)
    return _ready(experiment, member, folder, journal, count_digits=policy.count_digits)


def _floor(policy: SitePolicy, experiment: Experiment) -> Floor:
    """Return what this site insists on: its own policy, or more where the run asks for more."""
    asked = experiment.strategy.secure
    colluding = max(policy.max_colluding, asked.max_colluding)
    two = policy.accept_two and asked.accept_two
    least = max(policy.min_survivors, asked.min_survivors, 2 if two else max(3, colluding + 2))
    return Floor(least, colluding, two)


def _ready(
    experiment: Experiment, member: Member, folder: Path, journal: Journal, *, count_digits: int
) -> SecureSite:
    vault = Vault(folder / f"run-{member.session.run}", member, degree=degree_of(experiment))
    return SecureSite(member, experiment, vault, journal, count_digits)
