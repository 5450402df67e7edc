"""Score one model on labelled images, keep its predictions, and explain a few of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.data.pseudonyms import told_patients
from primia_flwr.errors import ConfigError
from primia_flwr.evaluation.explain.cases import (
    FOLDER,
    ExplainedCase,
    Explanation,
    Picture,
    picture_of,
    write_cases,
)
from primia_flwr.evaluation.explain.pictures import write_pictures
from primia_flwr.evaluation.explain.saliency import Case, choose_cases, explained_layer, grad_cam
from primia_flwr.evaluation.predictions import read_predictions, write_predictions
from primia_flwr.models.card import CARD_FILE, ModelCard
from primia_flwr.models.saved import load_model
from primia_flwr.tasks.judge import Judge, ModelScores
from primia_flwr.tasks.predictions import Predictions
from primia_flwr.tasks.task import Task
from primia_flwr.training.device import pick_device
from primia_flwr.training.evaluate import predict
from primia_flwr.training.normalisation import Normalisation

Scorer = Callable[[nn.Module, ModelCard, Path], ModelScores]


def score_model(
    model: nn.Module,
    card: ModelCard,
    test: LabelledImages,
    path: Path,
    *,
    batch_size: int,
    device: str,
    precision: str = "fp32",
    private: Path | None = None,
) -> ModelScores:
    """Predict the images, write the predictions to `path`, and return the scores.

    `precision` is that in which the model was trained and validated; fp16 needs a GPU, and is fp32
    where there is none.
    Patients are written as pseudonyms by the key in the folder `private` (see
    `data.pseudonyms.told_patients`).
    """
    picked = pick_device(device)
    outputs = predict(
        model,
        test,
        normalisation=Normalisation(card.mean, card.std),
        batch_size=batch_size,
        device=picked,
        precision="fp32" if (precision, picked.type) == ("fp16", "cpu") else precision,
    )
    judge: Judge = test.task.judge
    made = predictions_of(test, outputs)
    patients = told_patients(made.patients, synthetic=test.synthetic, private=private)
    write_predictions(path, replace(made, patients=patients), judge)
    return judge.score(made.labels, outputs, test.classes)


def predictions_of(images: LabelledImages, outputs: npt.NDArray[Any]) -> Predictions:
    """Return what a model made of each case; a study's has the name of its first image."""
    cases = images.cases()
    first = cases.first.tolist()
    return Predictions(
        tuple(images.files[row] for row in first),
        tuple(images.patients[row] for row in first),
        cases.known(images.labels).numpy(),
        outputs,
        images.classes,
    )


def score_own_models(run_dir: Path, sites: Sequence[str], scored: Scorer) -> dict[str, Any]:
    """Return, in a simulation, the scores of the models that sites saved with their own layers.

    Parameters
    ----------
    run_dir : Path
        The run's, into which `predictions-<site>.csv` is written.
    sites : sequence of str
        Their names; one that saved none is left out.
    scored : callable
        Given a model, its card, and where to write the predictions.
    """
    found: dict[str, Any] = {}
    for site in sites:
        folder = run_dir / "sites" / site / "model"
        if (folder / CARD_FILE).is_file():
            scores = scored(*load_model(folder), run_dir / f"predictions-{site}.csv")
            found[site] = scores.to_dict()
    return found


def check_explained(task: Task, key: str, value: int) -> None:
    """Refuse maps of a task that calls no class.

    Raises
    ------
    ConfigError
        If maps are asked for.
    """
    if value and not (task.explained or task.masked):
        raise ConfigError(
            f"{key}={value} with data.task={task.name}; expected 0: a map shows what spoke for the "
            f"class that a model called, and this task calls none; set {key}=0"
        )


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

    Of a task with masks, instead, the images that its pictures draw on: `per_class` of each kind.

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
    known = read_predictions(folder / "predictions.csv", test.task.judge)
    if test.task.masked:
        rows = test.task.judge.pictured(known, per_class)
        pictures = {row: picture_of(test.images[row].numpy(), frames=card.frames) for row in rows}
        return write_pictures(folder / FOLDER, pictures)
    cases = choose_cases(known.labels, known.outputs, per_class=per_class)
    chosen = test.select([case.index for case in cases])
    maps = grad_cam(
        model.to(pick_device(device)),
        card.model.name,
        Normalisation(card.mean, card.std).apply(chosen.images),
        [case.predicted for case in cases],
    )
    explained = tuple(
        _explained(case, test.classes, picture_of(image.numpy(), frames=card.frames), heat)
        for case, image, heat in zip(cases, chosen.images, maps, strict=True)
    )
    layer = explained_layer(card.model.name, card.image_size)
    write_cases(folder / FOLDER, Explanation(*layer, origin, explained))


def _explained(
    case: Case, classes: Sequence[str], image: Picture, heat: npt.NDArray[np.float32]
) -> ExplainedCase:
    return ExplainedCase(
        row=case.index + 1,
        label=classes[case.label],
        predicted=classes[case.predicted],
        confidence=case.confidence,
        image=image,
        heat=np.rint(255 * heat).astype(np.uint8),
    )
