"""The attack of a coordinator that sends a crafted model: one image out of the sum over all sites.

Nothing of it is recorded. For each round of the run the sites' training is done again, once over
the run's first model (the honest coordinator) and once over that model with a trap in it
(`crafted_model`), and the opened sum is taken for the gradient of one image.
"""

from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from primia_flwr.attacks.crafted.model import (
    Trap,
    check_run,
    getting_through,
    head_of,
    last_norm,
    lift,
    set_trap,
)
from primia_flwr.attacks.crafted.unmasked_sum import (
    Federation,
    cosines,
    float_arrays,
    images_a_round,
)
from primia_flwr.attacks.inversion.gradients import GradientOf
from primia_flwr.attacks.inversion.ground_truth import GroundTruth
from primia_flwr.attacks.inversion.labels import as_labels, label_counts
from primia_flwr.attacks.inversion.runner import NOISE, AttackRunner, AttackSettings, Job
from primia_flwr.attacks.inversion.targets import Seen
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.data.dataset import load_test
from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.models.arrival import check_arrived
from primia_flwr.models.registry import build_model
from primia_flwr.training.device import derive_seed
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import steps_a_round

CRAFTED, HONEST = "crafted", "honest"  # whose sum; of the model that was sent
_HONEST_ARM = "honest_model"
_PUBLIC = 400  # images of other patients by which the attacker sets the trap, at most


@dataclass(frozen=True)
class SumRow:
    """One opened sum.

    `images`: that were trained on in it. `with_gradient`: of them, with any below the classifier.
    `best_cosine`: of the sum with the nearest single image's gradient. `refused`: what the check
    at a site says of the model, empty where it passes.
    """

    arm: str
    server_round: int
    images: int
    with_gradient: int
    best_cosine: float
    refused: str


class CraftedAttackRunner(AttackRunner):
    """As `Campaign`, on sums over models that the attacker chose; one image is sought in each."""

    def __init__(
        self,
        run_dir: Path,
        experiment: Experiment,
        model: nn.Module,
        normalisation: Normalisation,
        settings: AttackSettings,
        folder: Path,
        device: torch.device,
    ) -> None:
        check_run(experiment, settings.crafted)
        super().__init__(run_dir, experiment, model, normalisation, settings, folder, device)
        head = head_of(model)[0]
        self._names = [n for n in self._names if n != f"{head}.bias"]  # every image is in it
        self._federation = Federation(
            experiment,
            {site: self.data.images_of(site) for site in experiment.federation.sites},
            normalisation,
            device,
        )
        own = load_test(experiment.data, seed=experiment.seed).images[:_PUBLIC]
        self._public = self._normalisation.apply(own).to(device)
        self._sent = OrderedDict[tuple[str, int], nn.Module]()
        self._through = dict[tuple[str, int], Tensor]()
        self._attacked = list[tuple[str, int]]()
        self._rows = dict[tuple[str, int], SumRow]()
        self._seen = OrderedDict[tuple[str, int], Seen]()

    def jobs(self, images: int, *, control: bool) -> list[Job]:
        """Return the rounds, in order, in whose crafted sum somebody is, until there are enough.

        The controls are the sums over an honest model, and random numbers.

        Raises
        ------
        ConfigError
            If nobody gets through in any round.
        """
        chosen = list[int]()
        for number in range(1, self.experiment.federation.rounds + 1):
            if len(chosen) == images:
                break
            if self.through(CRAFTED, number).any():
                chosen.append(number)
            else:
                self._rows[CRAFTED, number] = self._row(CRAFTED, number, 0.0)
        if not chosen:
            raise ConfigError(
                f"target=crafted_model, but in none of the {len(self._rows)} rounds did an image "
                "get through the trap (about one a round does); expected one at least; simulate a "
                "run with more federation.rounds, or set another seed"
            )
        arms = [(self.settings.target, CRAFTED)]
        arms += [(_HONEST_ARM, HONEST), (NOISE, CRAFTED)] if control else []
        whose = dict.fromkeys(name for _, name in arms)
        self._attacked = [(name, number) for name in whose for number in chosen]
        return [Job(arm, name, number) for arm, name in arms for number in chosen]

    def seen(self, name: str, server_round: int) -> Seen:
        """Let the sites train on a model, and return the sum that is opened."""
        key = (name, server_round)
        if key not in self._seen:
            model = self.sent(name, server_round)
            training, sites = self.experiment.training, self.experiment.federation.sites
            steps = max(steps_a_round(training, self.data.size_of(site)) for site in sites)
            found = self._federation.opened_sum(model, server_round)
            seen = self._whose(name, server_round)
            self._seen[key] = replace(seen, base=float_arrays(model), change=found, steps=steps)
            if len(self._seen) > 1:  # tens of megabytes each
                self._seen.popitem(last=False)
        return self._seen[key]

    def truth(self, seen: Seen) -> GroundTruth:
        """Return the images of the sum that have a gradient below the classifier in it."""
        name = seen.name.rpartition("-")[2]
        whole = self.data.truth_of(seen)
        rows = self.through(name, seen.server_round).nonzero().flatten()
        patients = tuple(whole.patients[row] for row in rows.tolist())
        return GroundTruth(whole.images[rows], whole.labels[rows], patients)

    def batch_size(self, truth: GroundTruth) -> int:
        """Return 1: the attacker takes each sum for one image's gradient."""
        return 1

    def sums(self) -> list[dict[str, Any]]:
        """Return a row for each opened sum that was looked at, crafted ones first, by round."""
        for name, server_round in self._attacked:
            self.measure(name, server_round)
        return [asdict(self._rows[key]) for key in sorted(self._rows)]

    def measure(self, name: str, server_round: int) -> SumRow:
        """Return how near one opened sum is to a single image's gradient."""
        key = (name, server_round)
        if key not in self._rows:
            seen, model = self.seen(name, server_round), self.sent(name, server_round)
            truth = self.truth(seen)
            images = self._normalisation.apply(truth.images).to(self._device)
            smooth = self.experiment.training.label_smoothing
            labels = truth.labels.to(self._device)
            near = cosines(model, images, labels, seen.change, smooth=smooth)
            self._rows[key] = self._row(name, server_round, max(near))
        return self._rows[key]

    def sent(self, name: str, server_round: int) -> nn.Module:
        """Return the model that the coordinator sends, in training mode."""
        key = (name, server_round)
        if key not in self._sent:
            model = self._first().train().to(self._device)
            if name == CRAFTED:
                share = 1 / images_a_round(self._federation)
                set_trap(model, self._trap(server_round), self._public, share=share)
            self._sent[key] = model
            if len(self._sent) > 2:
                self._sent.popitem(last=False)
        return self._sent[key]

    def through(self, name: str, server_round: int) -> Tensor:
        """Return which images of a round, (N,) bool, have any gradient below the classifier."""
        key = (name, server_round)
        if key not in self._through:
            images = self.data.truth_of(self._whose(name, server_round)).images
            images = self._normalisation.apply(images).to(self._device)
            self._through[key] = getting_through(self.sent(name, server_round), images).cpu()
        return self._through[key]

    def _gradient_of(self, job: Job) -> GradientOf:
        prepare = None
        if job.name == CRAFTED:
            channel = self._trap(job.server_round).channel

            def prepare(model: nn.Module) -> None:
                lift(model, channel)

        return GradientOf(
            self._model,
            self._names,
            sees_switches=self.settings.search.sees_switches,
            prepare=prepare,
        )

    def _labels(
        self,
        job: Job,
        seen: Seen,
        gradient: tuple[Tensor, ...],
        gradient_of: GradientOf,
        generator: torch.Generator,
    ) -> Tensor:
        """Recover the label of the one image: of the classifier only the trap's column has it."""
        if job.arm != self.settings.target:
            return super()._labels(job, seen, gradient, gradient_of, generator)
        column = -seen.change[f"{head_of(self._model)[0]}.weight"]
        counts = label_counts(column[:, self._trap(job.server_round).channel], column[:, 0], 1)
        return as_labels(counts)

    def _row(self, name: str, server_round: int, best: float) -> SumRow:
        through = self.through(name, server_round)
        try:
            check_arrived(self.sent(name, server_round))
            refused = ""
        except ProtocolError as error:
            refused = str(error)
        arm = self.settings.target if name == CRAFTED else _HONEST_ARM
        return SumRow(arm, server_round, len(through), int(through.sum()), best, refused)

    def _whose(self, name: str, server_round: int) -> Seen:
        """Return an update of which only sites and round are known."""
        sites = tuple(self.experiment.federation.sites)
        return Seen(f"round-{server_round:03d}-{name}", server_round, sites, {}, {}, 1)

    def _trap(self, server_round: int) -> Trap:
        seed = derive_seed(self.settings.seed, "trap", server_round)
        return Trap(self.settings.crafted, seed % last_norm(self._model).num_channels)

    def _first(self) -> nn.Module:
        """Return the model that the run began with."""
        experiment = self.experiment
        return build_model(
            experiment.model,
            outputs=len(self.data.gallery().classes),
            channels=experiment.data.channels,
            seed=derive_seed(experiment.seed, "model"),
        )
