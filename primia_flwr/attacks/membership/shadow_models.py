"""Shadow models on disk: each is kept as soon as it is trained, so that an attack can go on.

A folder is named after all that decides its models (the run's configuration and round, the
attacker's images, the seed), so that those of another attack are never taken for these. A model
that is missing or damaged is trained again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from primia_flwr.attacks.membership.attacked_run import AttackedRun
from primia_flwr.attacks.membership.confidence import FloatArray, logit_confidence
from primia_flwr.attacks.membership.lira import BoolArray
from primia_flwr.attacks.membership.shadow_recipe import ShadowRecipe
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import CheckpointError
from primia_flwr.models.card import CARD_FILE
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import load_model, save_model
from primia_flwr.training.device import derive_seed, pick_device
from primia_flwr.training.evaluate import predict
from primia_flwr.training.normalisation import Normalisation

OnShadow = Callable[[int, float], None]
_VERSION = 1  # of how shadow models are trained


@dataclass(frozen=True)
class ShadowPlan:
    """The attacker's images, and (S, pool) bool: which of them each shadow model is trained on."""

    pool: LabelledImages
    inside: BoolArray
    seed: int

    def images_of(self, index: int) -> LabelledImages:
        """Return the training images of one shadow model."""
        return self.pool.select(np.flatnonzero(self.inside[index]).tolist())


class ShadowModels:
    """The shadow models of one attack, trained when they are first needed."""

    def __init__(
        self, run: AttackedRun, plan: ShadowPlan, recipe: ShadowRecipe, folder: Path
    ) -> None:
        self._run, self._plan, self._recipe = run, plan, recipe
        self._folder = folder / "shadows" / fingerprint(run, plan)

    def folder_of(self, index: int) -> Path:
        """Return where shadow model `index` is kept."""
        return self._folder / f"{index:03d}"

    def finished(self) -> int:
        """Return how many of the plan's models are kept already."""
        folders = map(self.folder_of, range(len(self._plan.inside)))
        return sum((folder / CARD_FILE).is_file() for folder in folders)

    def models(self, on_shadow: OnShadow | None = None) -> Iterator[nn.Module]:
        """Yield every shadow model in order; told: the number done, and the part of this one.

        Raises
        ------
        PrimiaError
            If one cannot be trained or kept.
        """
        for index in range(len(self._plan.inside)):
            try:
                model = load_model(self.folder_of(index))[0]
            except CheckpointError:
                model = self._train(index, on_shadow)
            if on_shadow:
                on_shadow(index + 1, 0.0)
            yield model

    def confidences(
        self, images: LabelledImages, device: str, on_shadow: OnShadow | None = None
    ) -> FloatArray:
        """Return the logit-scaled confidences (S, N) of all shadow models."""
        return np.stack(
            [_confidences(m, self._run, images, device) for m in self.models(on_shadow)]
        )

    def _train(self, index: int, on_shadow: OnShadow | None) -> nn.Module:
        card = self._run.card
        model = build_model(
            card.model,
            outputs=len(card.classes),
            channels=card.channels,
            seed=derive_seed(self._plan.seed, "shadow model", index),
        )
        state = self._recipe.train(
            model,
            self._plan.images_of(index),
            index,
            (lambda p: on_shadow(index, p.batch / p.num_batches)) if on_shadow else None,
        )
        model.load_state_dict(state)
        save_model(self.folder_of(index), model, replace(card, privacy=""))
        return load_model(self.folder_of(index))[0]  # the very model that a later attack finds


def _confidences(
    model: nn.Module, run: AttackedRun, images: LabelledImages, device: str
) -> FloatArray:
    """Return the logit-scaled confidences (N,) of a model in the images' true classes."""
    return logit_confidence(probabilities(model, run, images, device), images.labels.numpy())


def probabilities(
    model: nn.Module, run: AttackedRun, images: LabelledImages, device: str
) -> FloatArray:
    """Return what a model with the run's card answers to the images, (N, C)."""
    return predict(
        model,
        images,
        normalisation=Normalisation(run.card.mean, run.card.std),
        batch_size=128,
        device=pick_device(device, key="device"),
    )


def fingerprint(run: AttackedRun, plan: ShadowPlan) -> str:
    """Return 12 hexadecimal digits of all that decides the shadow models but their number."""
    files = np.array(plan.pool.files)
    first = files[plan.inside[0]].tolist()
    facts = [_VERSION, run.card.config_hash, run.card.round, plan.seed, files.tolist(), first]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
