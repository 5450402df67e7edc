"""Who this site is in secure aggregation: identity, roster, floor, journal and vault.

Imports no torch, because most of the protocol's messages need none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock
from flwr.app import Context

from clients.leaving import leaving
from clients.site.node import experiment_of, node_of, parsed
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError, PolicyRefusal
from primia_flwr.messages.secure import degree_of, floor_of, session_of, terms_of
from primia_flwr.processes.children import running_bundle
from primia_flwr.provisioning.identities import load_identity, roster_keys, simulated_keys
from primia_flwr.secagg.protocol.parties import Floor, Member, roster_digest
from primia_flwr.secagg.protocol.vault import Vault
from primia_flwr.secagg.state.journal import Journal, MemberRule
from primia_flwr.site.policy import SitePolicy, load_policy


@dataclass(frozen=True)
class SecureSite:
    """A site that is ready for the protocol.

    `folder`: private to the site, shared by all runs. `roster`: digest of all sites of the
    federation, those that are not in this run included. `terms`: see
    `secure_records.terms_of`. `count_digits`: significant digits of the counts of training images
    that it puts into a sum. `allow_other_survivors`, `member_lists_since`: see `Journal`.
    `allow_mixed_rounds`: be in sums over updates of different rounds' models.
    `has_ceiling`: a private run is bounded by the site's own ledger.
    `simulated`: on the researcher's own machine, where the sums may be audited.
    """

    member: Member
    experiment: Experiment
    folder: Path
    roster: bytes
    terms: bytes
    count_digits: int = 2
    allow_other_survivors: bool = False
    allow_mixed_rounds: bool = False
    member_lists_since: str = ""
    has_ceiling: bool = False
    simulated: bool = False

    @property
    def name(self) -> str:
        """The site's name."""
        return self.member.name

    @property
    def vault(self) -> Vault:
        """The instances of this run."""
        folder = self.folder / f"run-{self.member.session.run}"
        degree = degree_of(self.experiment, self.member.floor)
        return Vault(folder, self.member, degree=degree)

    @property
    def member_rule(self) -> MemberRule | None:
        """Which lists of sites it answers besides one another.

        None where each update has noise of its own, which the site's ceiling keeps from being
        nothing, so that a difference is a private one; and on a sparse graph, where it does not
        see who is on a list.
        """
        noisy = leaving(self.experiment).own_noise and self.has_ceiling
        if noisy or self.experiment.aggregation.degree:
            return None
        least = self.member.floor.min_survivors
        return MemberRule(self.roster.hex(), least, since=self.member_lists_since)

    @contextmanager
    def exclusive(self) -> Iterator[Journal]:
        """Keep every other process of this site out of vault and journal, whatever its run.

        Two requests at the same time could otherwise both find that nothing was answered yet.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self.folder / ".lock"):
            journal = self.folder / "answered.jsonl"
            yield Journal(
                journal, allow_other_list=self.allow_other_survivors, rule=self.member_rule
            )


@lru_cache(maxsize=4)
def _terms(text: str, flower_run: int, bundle: str) -> bytes:
    """Return what the masks of a run are bound to; once a process, because YAML takes its time."""
    return terms_of(parsed(text), flower_run=flower_run, bundle=bundle)


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
    experiment = experiment_of(context)
    if not experiment.aggregation.named or not experiment.aggregation.run:
        raise ConfigError(
            f"aggregation.name={experiment.aggregation.name}, yet the coordinator asks for secure "
            "aggregation; expected aggregation=secure"
        )
    text, place = node_of(context)
    if isinstance(place, int):
        return _simulated(experiment, _terms(text, context.run_id, ""), place)
    return _deployed(experiment, _terms(text, context.run_id, running_bundle()), place)


def _simulated(experiment: Experiment, terms: bytes, index: int) -> SecureSite:
    name, run_dir = experiment.federation.sites[index], Path(experiment.output_dir)
    folder = run_dir / "sites" / name
    identity, identities = load_identity(folder / "identity.key"), simulated_keys(run_dir)
    member = Member(name, identity, session_of(experiment, identities), floor_of(experiment))
    return SecureSite(
        member,
        experiment,
        folder,
        roster=roster_digest(identities),
        terms=terms,
        allow_other_survivors=experiment.aggregation.allow_other_survivors,
        allow_mixed_rounds=experiment.aggregation.mixed_rounds,
        member_lists_since=experiment.aggregation.member_lists_since,
        has_ceiling=True,
        simulated=True,
    )


def _deployed(experiment: Experiment, terms: bytes, site_file: Path) -> SecureSite:
    policy = load_policy(site_file)
    identity = load_identity(policy.path(policy.identity_key))
    identities = roster_keys(policy.path(policy.roster))
    session, floor = session_of(experiment, identities), _floor(policy, experiment)
    return SecureSite(
        Member(policy.site, identity, session, floor),
        experiment,
        policy.state_folder / "secagg",
        roster=roster_digest(identities),
        terms=terms,
        count_digits=policy.count_digits,
        allow_other_survivors=policy.allow_other_survivors,
        allow_mixed_rounds=policy.allow_mixed_rounds,
        member_lists_since=policy.member_lists_since,
        has_ceiling=policy.max_epsilon > 0,
    )


def _floor(policy: SitePolicy, experiment: Experiment) -> Floor:
    """Return what this site insists on: its own policy, or more where the run asks for more."""
    asked = experiment.aggregation
    own = (policy.min_survivors, policy.max_colluding)
    if asked.degree:
        if not policy.allow_sparse_graph:
            raise PolicyRefusal(
                f"aggregation.degree={asked.degree}; expected 0, the complete graph, or "
                "allow_sparse_graph: true in this site's policy"
            )
        own = (policy.sparse_min_survivors, policy.sparse_max_colluding)
    colluding = max(own[1], asked.max_colluding)
    two = policy.accept_two and asked.accept_two
    least = max(own[0], asked.min_survivors, 2 if two else 3, colluding + 2)
    return Floor(least, colluding, two)
