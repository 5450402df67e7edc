"""`primia inference calibrate`: whether fixed point does for a model, and which ring it takes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.config.inference import InferDataArguments
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from primia_flwr.models.activation_bounds import Precision


@dataclass
class _CalibrateArguments:
    """`primia inference calibrate`; `images` at most, evenly from all that are found."""

    model: str = ""
    data: InferDataArguments = field(default_factory=InferDataArguments)
    images: int = 500
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("images", self.images, 1, 10**6, example=500)


def _run(cfg: _CalibrateArguments) -> dict[str, Any]:
    """Measure, and write the bounds into the model's card."""
    from primia_flwr.data.files.unlabelled import Unlabelled, find_images
    from primia_flwr.inference.lowering.bounds import LEAST_BITS
    from primia_flwr.inference.lowering.precision import calibrate
    from primia_flwr.models.card import CARD_FILE, weights_digest
    from primia_flwr.models.saved import load_model, write_bounds
    from primia_flwr.training.normalisation import Normalisation

    if not cfg.model:
        raise ConfigError(
            "model is empty; expected the folder of a finished run, e.g. model=outputs/a"
        )
    folder = Path(cfg.model).expanduser().resolve()
    weights = weights_digest(folder)
    model, card = load_model(folder, single=True)
    root, files = find_images(cfg.data.root)
    count = min(cfg.images, len(files))
    picked = [files[i * len(files) // count] for i in range(count)]
    images = Unlabelled(
        tuple(picked), root, card.image_size, card.resize, card.channels, card.frames
    )
    normalisation = Normalisation(card.mean, card.std)
    batches = (
        normalisation.apply(images.load(file)[None])
        for file in track(picked, "calibrating", disable=cfg.quiet, transient=True)
    )
    bounds, precision = calibrate(model, batches, several=card.several)
    write_bounds(folder, bounds, weights=weights)
    changed = precision.changed + precision.ties_changed
    _show(Console(stderr=True, quiet=cfg.quiet, emoji=False), precision, count, count - changed)
    return {
        "images": count,
        "largest": max(bounds.largest, default=0.0),
        "compare_bits": max(bounds.bits, default=LEAST_BITS),
        "agreement": (count - changed) / count,
        "largest_logit_error": precision.largest_difference,
        "largest_score": precision.largest_score,
        "wrong_cuts_per_image": precision.wrong_cuts,
        "output": str(folder / CARD_FILE),
    }


def _show(console: Console, precision: "Precision", count: int, same: int) -> None:
    from primia_flwr.inference.lowering.precision import FEW_IMAGES

    console.print(
        f"fixed point against the network in the clear on {count} images: the same class for "
        f"{same}, scores within {precision.largest_difference:.2g}; "
        f"{precision.wrong_cuts:.1g} numbers are expected to be cut wrongly in an image",
        soft_wrap=True,
    )
    if count < FEW_IMAGES:
        console.print(
            f"{count} images are few: the bounds are those of these images; take {FEW_IMAGES} or "
            "more, of every scanner and class that you expect",
            soft_wrap=True,
        )


COMMAND = Command(
    words=("inference", "calibrate"),
    summary=(
        "compare a model in fixed point with itself in the clear on validation images, refuse one "
        "that loses precision, and measure which ring of its comparisons is large enough"
    ),
    examples=("primia inference calibrate model=outputs/a data.root=validation",),
    config_name="commands/inference/calibrate",
    schema=_CalibrateArguments,
    run=_run,
    positional="model",
)
