"""Score one model on labelled images, keep its predictions, and explain a few of them."""

from pathlib import Path

import numpy as np
from torch import nn

from primia_flwr.config.rows import MODELS
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.evaluation.explain.cases import (
    FOLDER,
    ExplainedCase,
    Explanation,
    picture_of,
    write_cases,
)
from primia_flwr.evaluation.explain.saliency import choose_cases, grad_cam, map_side
from primia_flwr.evaluation.predictions import read_predictions, write_predictions
from primia_flwr.models.card import ModelCard
from primia_flwr.tasks.classes.scores import Scores, score
from primia_flwr.training.device import pick_device
from primia_flwr.training.evaluate import predict
from primia_flwr.training.normalisation import Normalisation


def score_model(
    model: nn.Module,
    card: ModelCard,
    test: LabelledImages,
    path: Path,
    *,
    batch_size: int,
    device: str,
) -> Scores:
    """Predict the images, write the predictions to `path`, and return the scores."""
    probabilities = predict(
        model,
        test,
        normalisation=Normalisation(card.mean, card.std),
        batch_size=batch_size,
        device=pick_device(device),
    )
    labels = test.labels.numpy()
    write_predictions(path, test.files, test.patients, labels, probabilities, test.classes)
    return score(labels, probabilities, test.classes)


def explain_model(
    model: nn.Module,
    card: ModelCard,
    test: LabelledImages,
    folder: Path,
    *,
    per_class: int,
    origin: str,
    device: str,
) -> None:
    """Write Grad-CAM maps of the most confident right and wrong images into `folder/saliency`.

    Parameters
    ----------
    model, card, test
        As `score_model` took them.
    folder : Path
        Where it wrote predictions.csv.
    per_class : int
        Right ones, and wrong ones, of each class, at least 1.
    origin : str
        Which images these are, in words.
    device : str
        As `training.device`.

    Raises
    ------
    DataError
        If the folder cannot be read or written.
    """
    known = read_predictions(folder / "predictions.csv")
    cases = choose_cases(known.labels, known.probabilities, per_class=per_class)
    chosen = test.select([case.index for case in cases])
    maps = grad_cam(
        model.to(pick_device(device)),
        card.model.name,
        Normalisation(card.mean, card.std).apply(chosen.images),
        [case.predicted for case in cases],
    )
    explained = tuple(
        ExplainedCase(
            row=case.index + 1,
            label=test.classes[case.label],
            predicted=test.classes[case.predicted],
            confidence=case.confidence,
            image=picture_of(image.numpy()),
            heat=np.rint(255 * heat).astype(np.uint8),
        )
        for case, image, heat in zip(cases, chosen.images, maps, strict=True)
    )
    name = card.model.name
    side = map_side(name, card.image_size)
    write_cases(folder / FOLDER, Explanation(MODELS[name].explained, side, origin, explained))
