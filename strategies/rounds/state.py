"""Where a run is: what decides its future, and stands in every checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from primia_flwr.data.statistics import PixelSums
from primia_flwr.runs.checkpoint import GLOBAL, ArrayMap, Checkpoint
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.stopping.early import Patience
from strategies.rounds.config import LoopConfig

_BEST = "best"
_LEAST_NOISY_STD = 0.05  # noise can make a variance 0; pixels are in [0, 1]


@dataclass
class RunState:
    """Where a run is.

    `validated` is the last round whose model has been validated, `validation` what the sites'
    counts of the best model add up to; nothing where none was. `best` is the result so far: in a
    private run the last model, or the average of all.
    """

    model: ArrayMap
    best: ArrayMap
    patience: Patience
    mean: tuple[float, ...]
    std: tuple[float, ...]
    label_counts: list[int]
    side_counts: list[int] = field(default_factory=list)
    sites: list[dict[str, Any]] = field(default_factory=list)
    round: int = 0
    validated: int = 0
    validation: dict[str, Any] = field(default_factory=dict)
    stopped: str = ""

    @property
    def best_round(self) -> int:
        """The round of the best model; the last round where none was validated."""
        return self.patience.best_step or self.round

    @classmethod
    def begun(cls, cfg: LoopConfig, model: ArrayMap, sums: PixelSums) -> Self:
        """Return the beginning of a run, with what the sites' statistics add up to."""
        numbers = normalisation_of(cfg, sums)
        return cls(
            model=model,
            best=model,
            patience=cfg.patience(),
            mean=numbers.mean,
            std=numbers.std,
            label_counts=[int(count) for count in sums.label_counts],
            side_counts=[int(count) for count in sums.side_counts],
        )

    @classmethod
    def resumed(cls, found: Checkpoint, model: ArrayMap) -> Self:
        """Return what a checkpoint holds; `model` names the arrays of a model."""
        values = {key: value for key, value in found.state.items() if key != "history"}
        return cls(
            model={name: found.arrays[GLOBAL][name] for name in model},
            best={name: found.arrays[_BEST][name] for name in model},
            patience=Patience.from_dict(values.pop("patience")),
            mean=tuple(values.pop("mean")),
            std=tuple(values.pop("std")),
            round=found.round,
            **values,
        )

    def arrays(self) -> Mapping[str, ArrayMap]:
        """Return the models, as a checkpoint holds them."""
        return {GLOBAL: self.model, _BEST: self.best}

    def to_dict(self) -> dict[str, Any]:
        """Return what else a checkpoint holds, in plain types for JSON."""
        return {
            "patience": self.patience.to_dict(),
            "mean": list(self.mean),
            "std": list(self.std),
            "label_counts": self.label_counts,
            "side_counts": self.side_counts,
            "sites": self.sites,
            "validated": self.validated,
            "validation": self.validation,
            "stopped": self.stopped,
        }


def normalisation_of(cfg: LoopConfig, sums: PixelSums) -> Normalisation:
    """Return mean and deviation of the pixels: of the sites' sums, or as they are configured."""
    given = cfg.normalisation
    if given.kind == "federated":
        sums = sums.alike() if cfg.of_volumes else sums
        least = _LEAST_NOISY_STD if cfg.private else 0.0
        return Normalisation(sums.mean(), tuple(max(std, least) for std in sums.std()))
    repeat = cfg.channels if len(given.mean) == len(given.std) == 1 else 1
    return Normalisation(tuple(given.mean) * repeat, tuple(given.std) * repeat)
