"""Score one model on labelled images and keep its predictions."""

from pathlib import Path

from torch import nn

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.evaluation.metrics import Scores, score
from primia_flwr.evaluation.predictions import write_predictions
from primia_flwr.models.saved import ModelCard
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
