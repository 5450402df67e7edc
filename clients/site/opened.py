"""Which site this is, its data and its private folder, from what the SuperNode was started with.

In a simulation the site is a partition of the experiment's data. In a deployment it is what
the hospital's own site file says, and nothing the coordinator wrote changes that.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path

import torch
from flwr.app import Context

from clients.site.kept import KeptRounds
from clients.site.node import node_of, parsed
from clients.site.state import RoundState, SiteState
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import kept_hash
from primia_flwr.data.dataset import DealtSites, SiteData, deal_sites, load_own_site
from primia_flwr.runs.metadata import DEVICE_FILE
from primia_flwr.site.limits import PatientLimits, read_limits
from primia_flwr.site.policy import SitePolicy, load_policy
from primia_flwr.storage.atomic import make_folder, write_result
from primia_flwr.training.device import device_name, pick_device


@dataclass(frozen=True)
class Budget:
    """Where a site keeps its privacy ledger, and the most that its patients' epsilon may become.

    `unit`: patient or image. `ceiling` at `delta`; a site without a ceiling (None) counts all the
    same.
    """

    folder: Path
    unit: str
    ceiling: float | None
    delta: float


@dataclass(frozen=True)
class OpenSite:
    """A site that is ready to answer a message.

    `folder` is private to the site; `simulated` sites also write their progress into it, for the
    live view of the same machine. `min_round_images`: with fewer training images it takes no part
    in a round; `min_volumes`: with fewer it does not count its volumes. `count_digits`: significant
    digits of its weight. `initial_weights`: SHA-256 of models that none of the site's patients were
    in the training of. `limits`: epsilons that single patients allow, of those who take part in
    private runs only. `known_weights`: every run must begin with weights that the site knows.
    `trial`: in a search, the number of the configuration that `experiment` is.
    """

    name: str
    experiment: Experiment
    data: SiteData
    device: torch.device
    folder: Path
    simulated: bool
    budget: Budget
    min_round_images: int = 1
    min_volumes: int = 1
    count_digits: int = 2
    initial_weights: tuple[str, ...] = ()
    known_weights: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    trial: int | None = None
    correction: Mapping[str, torch.Tensor] = field(default_factory=dict)
    unsent: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def state(self) -> SiteState:
        """Return the site's private state of this experiment."""
        return SiteState(self.folder, self._own_folder, keep=self.experiment.client.keep_states)

    def state_before(self, number: int) -> RoundState:
        """Return what it kept of the round before; asynchronously, of the last that it was in."""
        skips = self.experiment.aggregation.asynchronous
        return self.state.newest(number - 1) if skips else self.state.load(number - 1)

    def kept(self, kind: str, *, keep: int = 0) -> KeptRounds:
        """Return the arrays of a kind that the site keeps of this run; by default of few rounds."""
        folder, few = self.folder / self._own_folder, self.experiment.client.keep_states
        return KeptRounds(folder, kind, run=self.experiment.aggregation.run, keep=keep or few)

    @property
    def _own_folder(self) -> str:
        name, aggregation = kept_hash(self.experiment), self.experiment.aggregation
        if aggregation.asynchronous:  # rounds that this run skips, another may have left
            name = f"{name}/run-{aggregation.run}"
        return name if self.trial is None else f"{name}/configuration-{self.trial:03d}"


class SiteContext(Context):
    """A context whose site is open already, as a mod wants those behind it to see the site."""

    def __init__(self, context: Context, site: OpenSite) -> None:
        super().__init__(**{part.name: getattr(context, part.name) for part in fields(Context)})
        self.site = site


def open_site(context: Context) -> OpenSite:
    """Open the site that this node stands for.

    Raises
    ------
    ConfigError
        If the node says neither which partition nor which site it is.
    """
    if isinstance(context, SiteContext):
        return context.site
    text, place = node_of(context)
    return _simulated(text, place) if isinstance(place, int) else _deployed(text, place)


@lru_cache(maxsize=1)
def _dealt(text: str) -> DealtSites:
    """Deal the images once a process: a site costs what its own images cost."""
    experiment = parsed(text)
    names = experiment.federation.sites
    return deal_sites(experiment.data, seed=experiment.seed, num_sites=len(names), site_names=names)


@lru_cache(maxsize=32)  # one process plays many sites in turn
def _simulated(text: str, index: int) -> OpenSite:
    experiment = parsed(text)
    names = experiment.federation.sites
    data = _dealt(text).open(index)
    folder = Path(experiment.output_dir or ".") / "sites" / names[index]
    privacy = experiment.privacy
    # of several GPUs this process sees its own alone, whatever its number
    device = pick_device(experiment.training.device.partition(":")[0])
    make_folder(folder)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    write_result(folder / DEVICE_FILE, {"device": device_name(device), "visible_gpus": seen})
    return OpenSite(
        name=names[index],
        experiment=experiment,
        data=data,
        device=device,
        folder=folder,
        simulated=True,
        budget=Budget(folder / "privacy", privacy.unit, privacy.epsilon or None, privacy.delta),
    )


def _deployed(text: str, site_file: Path) -> OpenSite:
    experiment, policy = parsed(text), load_policy(site_file)
    own = policy.data_of(experiment.data)
    limits, unit, most = _limits(policy), policy.privacy_unit, policy.max_epsilon or None
    outside = limits.outside(private=bool(experiment.privacy.protected_unit))
    return OpenSite(
        name=policy.site,
        experiment=replace(experiment, data=own),
        data=load_own_site(own, seed=experiment.seed, name=policy.site, without=outside),
        device=pick_device(policy.device),
        folder=policy.state_folder / "experiments",
        simulated=False,
        budget=Budget(policy.privacy_folder, unit, most, policy.privacy_delta),
        min_round_images=policy.min_round_images,
        min_volumes=policy.min_fingerprint_volumes,
        count_digits=policy.count_digits,
        initial_weights=tuple(policy.initial_weights),
        limits=limits.limited,
        known_weights=policy.allow_weights == "known",
    )


def _limits(policy: SitePolicy) -> PatientLimits:
    if not policy.patient_limits:
        return PatientLimits()
    return read_limits(policy.path(policy.patient_limits))
