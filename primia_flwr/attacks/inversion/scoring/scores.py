"""The score of an attack: reconstructions against originals, and the arms against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from primia_flwr.attacks.inversion.ground_truth import GroundTruth
from primia_flwr.attacks.inversion.runner import NOISE, Finished
from primia_flwr.attacks.inversion.scoring.given_networks import Perceptual
from primia_flwr.attacks.inversion.scoring.identification import Gallery, identified
from primia_flwr.attacks.inversion.scoring.measures import (
    Likeness,
    frechet_distance,
    likeness,
    matched,
)
from primia_flwr.attacks.inversion.scoring.significance import (
    against_control,
    against_strangers,
    anova,
)
from primia_flwr.training.normalisation import Normalisation

_STRANGERS_DRAWN = 20  # times as many images of other patients as there are originals


@dataclass(frozen=True)
class Pair:
    """A reconstruction with the original that it is compared with.

    `reconstruction`, `original`: (C, H, W) float32 in [0, 1]. `nearest`: in each space, the patient
    of the nearest image. `strangers_ssim`: the mean SSIM where the same reconstructions are matched
    with as many images of other patients; None where there are too few.
    """

    arm: str
    update: str
    reconstruction: Tensor
    original: Tensor
    label: int
    recovered_label: int
    likeness: Likeness
    patient: str
    nearest: Mapping[str, str]
    strangers_ssim: float | None
    lpips: float | None = None

    def facts(self) -> dict[str, Any]:
        """Return what may be written down of it: nothing that names a patient or a file."""
        return {
            "arm": self.arm,
            "update": self.update,
            **asdict(self.likeness),
            "strangers_ssim": self.strangers_ssim,
            "lpips": self.lpips,
            "label": self.label,
            "recovered_label": self.recovered_label,
            **{f"identified_by_{s}": p == self.patient for s, p in self.nearest.items()},
        }


class PooledFeatures(nn.Module):
    """What enters a classifier's last layer: the pooled features of (N, C, H, W) in [0, 1]."""

    def __init__(self, model: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self._model, self._normalisation = model.eval(), normalisation
        self._seen = torch.empty(0)
        head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        head.register_forward_pre_hook(self._look)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, features)."""
        self._model(self._normalisation.apply(images))
        return self._seen

    def _look(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0].flatten(1)


def pairs_of(
    finished: Finished, truth: GroundTruth, gallery: Gallery, lpips: Perceptual | None = None
) -> list[Pair]:
    """Match the reconstructions of one update with what was in it, and compare."""
    images = list(finished.reconstruction.images)
    rows = matched(images, list(truth.images))
    strangers = _ssim_with_strangers(images, truth, gallery)
    pairs = []
    for index, (image, row) in enumerate(zip(images, rows, strict=True)):
        pairs.append(
            Pair(
                arm=finished.job.arm,
                update=f"{finished.job.name}, round {finished.job.server_round}",
                reconstruction=image,
                original=truth.images[row],
                label=int(truth.labels[row]),
                recovered_label=int(finished.labels[index]),
                likeness=likeness(image, truth.images[row]),
                patient=truth.patients[row],
                nearest={space: gallery.nearest(image, space) for space in ("pixels", "features")},
                strangers_ssim=strangers[index],
                lpips=lpips(image, truth.images[row]) if lpips else None,
            )
        )
    return pairs


def summary(
    pairs: Sequence[Pair], gallery: Gallery, features: nn.Module, labels_right: Mapping[str, float]
) -> dict[str, Any]:
    """Return the figures of every arm, and the tests between them where there are two or more."""
    arms = {arm: [p for p in pairs if p.arm == arm] for arm in dict.fromkeys(p.arm for p in pairs)}
    figures: dict[str, Any] = {"arms": {}}
    for arm, own in arms.items():
        made, true = [p.reconstruction for p in own], [p.original for p in own]
        figures["arms"][arm] = {
            "n": len(own),
            **{f"mean_{key}": _mean(own, key) for key in ("mse", "psnr", "ssim")},
            "mean_lpips": None if own[0].lpips is None else fmean(p.lpips or 0.0 for p in own),
            "labels_recovered": labels_right[arm],
            "frechet_distance": frechet_distance(made, true, features),
            **{
                f"identified_by_{space}": asdict(
                    identified([p.nearest[space] for p in own], [p.patient for p in own], gallery)
                )
                for space in ("pixels", "features")
            },
        }
        figures["arms"][arm]["against_strangers"] = _against_strangers(own)
    figures["tests"] = _tests_of({a: [p.likeness.ssim for p in own] for a, own in arms.items()})
    return figures


def _tests_of(ssim: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    """Return the tests of the arms' SSIM; None where there are too few arms or images."""
    if len(ssim) < 2 or min(len(values) for values in ssim.values()) < 2:
        return None
    return {
        "of": "SSIM; each arm against the control, one-sided for greater",
        "anova": asdict(anova(ssim)),
        "against_control": (
            [asdict(row) for row in against_control(ssim, NOISE)] if NOISE in ssim else []
        ),
    }


def share_of_labels(finished: Sequence[Finished], truths: Sequence[GroundTruth]) -> float:
    """Return the share of reconstructed images whose class is among the update's, counted.

    Of each update the smaller of recovered and true count of each class counts as right.
    """
    right = total = 0
    for result, truth in zip(finished, truths, strict=True):
        classes = 1 + int(max(result.labels.max(), truth.labels.max()))
        recovered = torch.bincount(result.labels, minlength=classes)
        real = torch.bincount(truth.labels, minlength=classes)
        right += int(torch.minimum(recovered, real).sum())
        total += len(result.labels)
    return right / total


def _against_strangers(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    known = [(p.likeness.ssim, p.strangers_ssim) for p in pairs if p.strangers_ssim is not None]
    if len(known) < 2:
        return None
    return asdict(against_strangers([own for own, _ in known], [other for _, other in known]))


def _ssim_with_strangers(
    images: list[Tensor], truth: GroundTruth, gallery: Gallery
) -> list[float] | list[None]:
    """Return each reconstruction's mean SSIM over draws of strangers, matched as originals are."""
    if len(gallery.strangers(truth.patients, len(images), seed=0)) < len(images):
        return [None] * len(images)
    found: list[list[float]] = [[] for _ in images]
    for seed in range(_STRANGERS_DRAWN):
        others = gallery.strangers(truth.patients, len(truth.images), seed=seed)
        for index, row in enumerate(matched(images, others)):
            found[index].append(likeness(images[index], others[row]).ssim)
    return [fmean(values) for values in found]


def _mean(pairs: Sequence[Pair], key: str) -> float:
    return fmean(getattr(pair.likeness, key) for pair in pairs)
