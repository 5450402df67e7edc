"""One attack on a recorded run: which updates, each inverted once and kept, and the control.

What is finished is kept on disk, so that an attack that was stopped goes on where it was.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from primia_flwr.attacks.inversion.config import InversionConfig
from primia_flwr.attacks.inversion.descent import Observation
from primia_flwr.attacks.inversion.gradients import GradientOf, revealed_statistics
from primia_flwr.attacks.inversion.ground_truth import GroundTruth, SitesData
from primia_flwr.attacks.inversion.inversion import Reconstruction, invert
from primia_flwr.attacks.inversion.labels import as_labels, label_counts
from primia_flwr.attacks.inversion.targets import (
    Seen,
    check_target,
    gradient_of_change,
    random_gradient,
    read_seen,
    updates_of,
)
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import parse_json, read_text, reading
from primia_flwr.training.device import derive_seed
from primia_flwr.training.normalisation import Normalisation

NOISE = "noise"  # the control arm
_PARTS = "parts"  # folder of what is finished


@dataclass(frozen=True)
class AttackSettings:
    """What decides the result of an attack on one update.

    `batch_norm`: whether the attacker uses the batch statistics that the received running
    statistics reveal. `per_update`: most images reconstructed of one update. `leave_out`: prefixes
    of parameters that are not compared, to save time. `crafted`: which trap, for
    `target=crafted_model` only.
    """

    target: str
    search: InversionConfig = field(default_factory=InversionConfig)
    batch_norm: str = "unknown"
    per_update: int = 4
    leave_out: tuple[str, ...] = ()
    seed: int = 1
    crafted: str = "norm"

    def digest(self, digest_of_run: str) -> str:
        """Return 16 hexadecimal digits that change with anything that changes a result."""
        text = json.dumps([asdict(self), digest_of_run], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Job:
    """One update in one arm: the target's name, or the control's."""

    arm: str
    name: str
    server_round: int

    @property
    def part(self) -> str:
        """The name of the file in which the result is kept."""
        return f"{self.arm}-{self.server_round:03d}-{self.name}"


@dataclass(frozen=True)
class Finished:
    """A job's result.

    `labels`: as recovered, (B,) int64. `kept`: whether it was there from before.
    """

    job: Job
    reconstruction: Reconstruction
    labels: Tensor
    kept: bool = False


class AttackRunner:
    """An attack on a run.

    Parameters
    ----------
    run_dir : Path
        A finished, recorded run.
    experiment : Experiment
        Its configuration.
    model : nn.Module
        Its published model; only the architecture counts, but for `local_model`.
    normalisation : Normalisation
        Of its card.
    settings : AttackSettings
        The attack.
    folder : Path
        Where results go.
    device : torch.device
        Where gradients are computed.

    Raises
    ------
    ConfigError
        If the run has no such target, or nothing would be compared.
    """

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
        self.settings, self._run_dir, self.experiment = settings, run_dir, experiment
        self._model, self._normalisation = model, normalisation
        self._folder, self._device = folder, device
        self._final = {n: t.clone() for n, t in model.state_dict().items()}
        self.data = SitesData(experiment)
        check_target(settings.target, experiment, self.data.size_of)
        names = [name for name, p in model.named_parameters() if p.requires_grad]
        self._names = [n for n in names if not n.startswith(settings.leave_out or ("\n",))]
        if not self._names:
            raise ConfigError(
                f"leave_out={list(settings.leave_out)} leaves nothing to compare; expected "
                f"prefixes of some parameters, e.g. [{names[-1].partition('.')[0]}]"
            )
        self._digest = settings.digest(_digest_of(run_dir))

    def jobs(self, images: int, *, control: bool) -> list[Job]:
        """Return what to do for at least `images` reconstructions, if the run has as many.

        Raises
        ------
        ConfigError
            If the run received nothing of the kind.
        """
        chosen, found = list[tuple[str, int]](), 0
        for name, number in updates_of(self._run_dir, self.settings.target):
            if found >= images:
                break
            chosen.append((name, number))
            found += self.batch_size(self.truth(self.seen(name, number)))
        if not chosen:
            raise ConfigError(
                f"target={self.settings.target}, but {self._run_dir} received nothing of that "
                "kind; expected a finished run; simulate it again with "
                "debug.record_received=true"
            )
        arms = [self.settings.target, *([NOISE] if control else [])]
        return [Job(arm, name, number) for arm in arms for name, number in chosen]

    def seen(self, name: str, server_round: int) -> Seen:
        """Return an update as the coordinator, or the next hospital of a relay, saw it."""
        return read_seen(
            self._run_dir,
            name,
            server_round,
            self.experiment,
            self.data.size_of,
            self._final,
            relayed=self.settings.target == "relayed_model",
        )

    def truth(self, seen: Seen) -> GroundTruth:
        """Return what was in it; for the score."""
        return self.data.truth_of(seen, from_round=1 if seen.published else None)

    def batch_size(self, truth: GroundTruth) -> int:
        """Return how many images are reconstructed of an update."""
        return min(len(truth.labels), self.settings.per_update)

    def run(self, job: Job, on_step: Callable[[int, float], None] | None = None) -> Finished:
        """Invert one update, or take what is kept of the same attack on it."""
        kept = self._kept(job)
        if kept:
            return kept
        seen = self.seen(job.name, job.server_round)
        generator = torch.Generator().manual_seed(
            derive_seed(self.settings.seed, "inversion", job.arm, job.name, job.server_round)
        )
        self._model.load_state_dict(dict(seen.base), strict=False)
        gradient_of = self._gradient_of(job).to(self._device)
        gradient = gradient_of_change(seen.change, self._names, self.experiment)
        if job.arm == NOISE:
            gradient = random_gradient(gradient, generator)
        labels = self._labels(job, seen, gradient, gradient_of, generator)
        known = self.settings.batch_norm == "known" and job.arm != NOISE
        revealed = revealed_statistics(self._model, seen.change, steps=seen.steps) if known else []
        result = invert(
            gradient_of,
            Observation(gradient, labels, revealed),
            self._shape,
            self._normalisation,
            self.settings.search,
            generator=generator,
            on_step=on_step,
        )
        finished = Finished(job, result, labels)
        self._keep(finished)
        return finished

    def _gradient_of(self, job: Job) -> GradientOf:
        """Return the attacker's copy of the round's model, which `_model` is by now."""
        sees = self.settings.search.sees_switches
        return GradientOf(self._model, self._names, sees_switches=sees)

    @property
    def _shape(self) -> tuple[int, int, int]:
        data = self.experiment.data
        return data.channels, data.image_size, data.image_size

    def _labels(
        self,
        job: Job,
        seen: Seen,
        gradient: tuple[Tensor, ...],
        gradient_of: GradientOf,
        generator: torch.Generator,
    ) -> Tensor:
        """Recover the labels; the control guesses them from its random gradient alike."""
        size = self.batch_size(self.truth(seen))
        head = [n for n, p in self._model.named_parameters() if n.endswith("bias")][-1]
        bias = gradient_of_change(seen.change, [head], self.experiment)[0]
        if job.arm == NOISE:
            bias = random_gradient((bias,), generator)[0]
        guess = torch.rand(8, *self._shape, generator=generator).to(self._device)
        probabilities = gradient_of.probabilities(guess).cpu()
        return as_labels(label_counts(bias, probabilities, size))

    def _path(self, job: Job) -> Path:
        return self._folder / _PARTS / f"{job.part}.safetensors"

    def _keep(self, finished: Finished) -> None:
        result = finished.reconstruction
        facts = {
            "digest": self._digest,
            "objective": result.objective,
            "distance": result.distance,
            "objectives": result.objectives,
        }
        content = {"images": result.images.contiguous(), "labels": finished.labels}
        path = self._path(finished.job)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save(content, {"facts": json.dumps(facts)}), mode=PRIVATE)

    def _kept(self, job: Job) -> Finished | None:
        path = self._path(job)
        if not path.is_file():
            return None
        try:
            with reading(path, error=DataError, expected="a part that this campaign wrote"):
                with safe_open(path, framework="pt") as file:
                    facts = parse_json((file.metadata() or {})["facts"], finite=False)
                    images, labels = file.get_tensor("images"), file.get_tensor("labels")
                names = ("objective", "distance", "objectives")
                result = Reconstruction(images, *(facts[name] for name in names))
        except DataError:
            return None  # torn by a crash: done again
        if facts.get("digest") != self._digest:
            return None
        return Finished(job, result, labels, kept=True)


def _digest_of(run_dir: Path) -> str:
    """Return what tells one run from another: the digest in its model's card."""
    path = run_dir / "model.json"
    expected = "a finished run; finish it with primia train resume=<folder>"
    with reading(path, error=DataError, expected=expected):
        return str(parse_json(read_text(path))["sha256"])
