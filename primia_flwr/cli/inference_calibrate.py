"""`primia inference calibrate`: how large the numbers get that a model compares."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from primia_flwr.cli.verb import Verb
from primia_flwr.config.checks import check_range
from primia_flwr.config.inference import InferDataArguments
from primia_flwr.errors import ConfigError


@dataclass
class CalibrateArguments:
    """`primia inference calibrate`; `images` at most, evenly from all that are found."""

    model: str = ""
    data: InferDataArguments = field(default_factory=InferDataArguments)
    images: int = 500
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("images", self.images, 1, 10**6, example=500)


def run(cfg: CalibrateArguments) -> dict[str, Any]:
    """Measure, and write the bounds into the model's card.

    Raises
    ------
    PrimiaError
        If the model or the images cannot be read, or the card cannot be written.
    """
    from primia_flwr.crypto.bounds import bounds_of, measure
    from primia_flwr.crypto.lowering import lower
    from primia_flwr.data.unlabelled import Unlabelled, find_images
    from primia_flwr.models.saved import CARD_FILE, load_model, weights_digest, write_bounds
    from primia_flwr.training.normalisation import Normalisation

    if not cfg.model:
        raise ConfigError(
            "model is empty; expected the folder of a finished run, e.g. model=outputs/a"
        )
    folder = Path(cfg.model).expanduser().resolve()
    weights = weights_digest(folder)
    model, card = load_model(folder)
    root, files = find_images(cfg.data.root)
    count = min(cfg.images, len(files))
    picked = [files[i * len(files) // count] for i in range(count)]
    images = Unlabelled(tuple(picked), root, card.image_size, card.resize, card.channels)
    normalisation = Normalisation(card.mean, card.std)
    batches = (
        normalisation.apply(images.load(file)[None])
        for file in track(picked, "calibrating", disable=cfg.quiet, transient=True)
    )
    largest = measure(model, batches)
    lowered = lower(model, (1, card.channels, card.image_size, card.image_size))
    bounds = bounds_of(lowered, largest, images=len(picked))
    write_bounds(folder, bounds, weights=weights)
    return {
        "images": len(picked),
        "largest": max(largest),
        "compare_bits": max(bounds.bits),
        "output": str(folder / CARD_FILE),
    }


VERB = Verb(
    words=("inference", "calibrate"),
    summary=(
        "measure on validation images how large the numbers get that a model compares; the model "
        "owner's server then refuses rings that are too small"
    ),
    examples=("primia inference calibrate model=outputs/a data.root=validation",),
    config_name="inference/inference_calibrate",
    schema=CalibrateArguments,
    run=run,
    positional="model",
)
