"""Was this patient in the training? Membership inference on the final model of a run.

Three attacks on the same images, of one patient each or of all images of a patient together:

- `loss`: the image with the smaller loss was in (Yeom et al. 2018);
- `lira_offline`: the model is surer of it than models that left it out (`lira.offline`);
- `lira_online`: also than models that had it (`lira.online`); only if the attacker can train on
  the very images in question.

Source: Yeom, Giacomelli, Fredrikson, Jha 2018, Privacy Risk in Machine Learning, Adversary 1,
https://arxiv.org/abs/1709.01604; Carlini et al. 2022, https://arxiv.org/abs/2112.03570.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from primia_flwr.attacks.membership import lira
from primia_flwr.attacks.membership.confidence import (
    FloatArray,
    IntArray,
    log_likelihood,
    logit_confidence,
)
from primia_flwr.attacks.membership.detection import Detection, by_patient, detect
from primia_flwr.attacks.membership.lira import BoolArray
from primia_flwr.data.dataset import LabelledImages

# name -> (words for people, how a patient's scores are put together: see `by_patient`)
ATTACKS = {
    "loss": ("loss threshold", 1.0),
    "lira_offline": ("LiRA, offline", 0.5),
    "lira_online": ("LiRA, online", 0.0),
}
LEVELS = ("image", "patient")


@dataclass(frozen=True)
class YeomThreshold:
    """The attack that calls an image a member if its loss is at most the mean training loss.

    Whoever attacks knows that loss if the run reports it; `tpr`, `fpr`, and their difference, the
    membership advantage of Yeom et al. 2018, definition 4.
    """

    mean_training_loss: float
    tpr: float
    fpr: float

    def to_dict(self) -> dict[str, float]:
        """Return plain types for JSON."""
        values = {"mean_training_loss": self.mean_training_loss, "tpr": self.tpr, "fpr": self.fpr}
        values["advantage"] = self.tpr - self.fpr
        return {key: round(value, 6) for key, value in values.items()}


@dataclass(frozen=True)
class Membership:
    """Scores (N,) of every attack, and what each achieves by image and by patient."""

    scores: dict[str, FloatArray]
    detections: dict[str, dict[str, Detection]]
    yeom: YeomThreshold

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, without scores and curves."""
        return {
            name: {level: found.to_dict() for level, found in levels.items()}
            for name, levels in self.detections.items()
        }


def infer_membership(
    probabilities: FloatArray,
    images: LabelledImages,
    member: BoolArray,
    shadows: FloatArray,
    inside: BoolArray,
    *,
    variance: str,
    seed: int,
) -> Membership:
    """Attack.

    Parameters
    ----------
    probabilities : (N, C) float64
        The attacked model's answers.
    images : LabelledImages
        The N questioned images: labels and patients are used.
    member : (N,) bool
        The truth, which only the judgement uses.
    shadows, inside, variance
        As `lira.offline`. The online attack is made if every image is in two models or more.
    seed : int
        Of the intervals.

    Raises
    ------
    PrimiaError
        As `lira.offline` and `detect`.
    """
    labels: IntArray = images.labels.numpy()
    phi = logit_confidence(probabilities, labels)
    likelihood = log_likelihood(probabilities, labels)
    scores = {
        "loss": likelihood,
        "lira_offline": lira.offline(phi, shadows, inside, variance=variance),
    }
    if inside.sum(axis=0).min() >= 2:
        scores["lira_online"] = lira.online(phi, shadows, inside, variance=variance)
    detections = {
        name: _judge(score, member, images.patients, ATTACKS[name][1], seed)
        for name, score in scores.items()
    }
    return Membership(scores, detections, yeom_threshold(-likelihood, member))


def yeom_threshold(losses: FloatArray, member: BoolArray) -> YeomThreshold:
    """Return rates of the threshold at the members' mean loss."""
    mean = float(losses[member].mean())
    said = losses <= mean
    return YeomThreshold(mean, float(said[member].mean()), float(said[~member].mean()))


def _judge(
    score: FloatArray, member: BoolArray, patients: tuple[str, ...], exponent: float, seed: int
) -> dict[str, Detection]:
    whole, truth, names = by_patient(score, member, patients, exponent=exponent)
    return {
        "image": detect(score, member, patients, seed=seed),
        "patient": detect(np.asarray(whole, np.float64), truth, names, seed=seed),
    }
