"""What a saved model says of images without labels, computed in the clear."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from primia_flwr.data.files.frames import count_frames, single_frames
from primia_flwr.data.files.store import in_parallel
from primia_flwr.data.files.unlabelled import Unlabelled
from primia_flwr.errors import DataError
from primia_flwr.models.card import ModelCard
from primia_flwr.training.device import pick_device
from primia_flwr.training.normalisation import Normalisation

_SMALLEST = 1e-15  # probability, and distance from 1, of which the logit is a number
REFUSE, EACH, MEAN = ("refuse", "each", "mean")


@dataclass(frozen=True)
class Opinion:
    """A model's logits (C,) float64 of one image or frame, or why there are none."""

    name: str
    file: Path
    scores: Tensor | None = None
    problem: str = ""
    seconds: float = 0.0


@dataclass
class Reader:
    """Decodes files for a model and asks it, a batch at a time.

    `frames`: what becomes of a DICOM file of several: `refuse`, `each` by itself, or the `mean` of
    their probabilities (its scores are the logarithms of those, or their logits). A model of
    sequences reads all of them, whatever it says.
    """

    model: nn.Module
    card: ModelCard
    root: Path
    batch_size: int = 128
    device: str = "auto"
    frames: str = REFUSE
    _prepared: Unlabelled = field(init=False)

    def __post_init__(self) -> None:
        card = self.card
        self._prepared = Unlabelled(
            (), self.root, card.image_size, card.resize, card.channels, card.frames
        )

    def read(self, files: tuple[Path, ...]) -> Iterator[Opinion]:
        """Yield what the model says of each file, in their order, those that cannot be read too."""
        device = pick_device(self.device, key="device")
        self.model.to(device).eval()
        for start in range(0, len(files), self.batch_size):
            batch = files[start : start + self.batch_size]
            began = time.perf_counter()
            loaded = list(in_parallel(self._load, batch, workers=0))
            good = [images for images in loaded if isinstance(images, Tensor)]
            found = self._ask(torch.cat(good), device) if good else torch.empty(0)
            seconds = (time.perf_counter() - began) / len(batch)
            for file, images in zip(batch, loaded, strict=True):
                name = self._prepared.name(file)
                if isinstance(images, DataError):
                    yield Opinion(name, file, problem=str(images))
                else:
                    logits, found = found[: len(images)], found[len(images) :]
                    yield from self._told(name, file, logits, seconds)

    def _load(self, file: Path) -> Tensor | DataError:
        """Return a file's images (N, C, S, S) uint8, one unless its frames are asked for."""
        try:
            if self.frames == REFUSE or self.card.frames > 1 or count_frames(file) == 1:
                return self._prepared.load(file)[None]
            with tempfile.TemporaryDirectory() as folder:
                single = single_frames(file, Path(folder))
                return torch.stack(
                    [self._frame(file, number, one) for number, one in enumerate(single, start=1)]
                )
        except DataError as error:
            return DataError(str(error))

    def _frame(self, file: Path, number: int, single: Path) -> Tensor:
        """Return one frame's image; what is wrong with it is said of the file that holds it."""
        try:
            return self._prepared.load(single)
        except DataError as error:
            raise DataError(str(error).replace(str(single), f"{file}, frame {number}")) from None

    def _ask(self, images: Tensor, device: torch.device) -> Tensor:
        normalised = Normalisation(self.card.mean, self.card.std)
        with torch.inference_mode():
            parts = [
                images[at : at + self.batch_size] for at in range(0, len(images), self.batch_size)
            ]
            found = [self.model(normalised.apply(part.to(device))) for part in parts]
        return torch.cat(found).double().cpu()

    def _told(self, name: str, file: Path, logits: Tensor, seconds: float) -> Iterator[Opinion]:
        if len(logits) == 1:
            yield Opinion(name, file, logits[0], seconds=seconds)
        elif self.frames == MEAN:
            if self.card.several:
                mean = logits.sigmoid().mean(dim=0).logit(eps=_SMALLEST)
            else:
                mean = logits.softmax(dim=1).mean(dim=0).log()
            yield Opinion(name, file, mean, seconds=seconds)
        else:
            for number, row in enumerate(logits, start=1):
                yield Opinion(f"{name}#{number}", file, row, seconds=seconds / len(logits))


def is_plausible(scores: Tensor) -> bool:
    """Whether scores are numbers: a model that diverged gives none."""
    return bool(np.isfinite(scores.softmax(dim=0).numpy()).all())
