"""Patients drawn twice, for whoever is to tell whether two images are of one patient."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from primia_flwr.data.drawing import radiograph

SIZE = 32  # pixels a side
BATCH = 32  # patients of a step, two images each
FINDINGS = (radiograph.NORMAL, radiograph.BACTERIAL, radiograph.VIRAL)
_SEVERITY = 2.0


@dataclass(frozen=True)
class Pairs:
    """Two images of each patient, (N, 2, 1, S, S) in [0, 1], and its finding, (N,)."""

    images: Tensor
    findings: Tensor

    def batches(self, steps: int, seed: int) -> Iterator[Tensor]:
        """Return so many batches' rows, drawn at random, each once in a batch."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            yield torch.randperm(len(self.findings), generator=generator)[:BATCH]

    @property
    def flat(self) -> tuple[Tensor, Tensor]:
        """All images (2 N, 1, S, S) and their findings, patient by patient."""
        return self.images.flatten(0, 1), self.findings.repeat_interleave(2)


def drawn(patients: range) -> Pairs:
    """Draw patients: one anatomy and finding each, two poses, exposures and noises."""
    found = [FINDINGS[patient % 3] for patient in patients]
    images = [
        [radiograph.draw(finding, _rng(patient), _rng(patient, image), severity=_SEVERITY)
         for image in (1, 2)]
        for patient, finding in zip(patients, found, strict=True)
    ]  # fmt: skip
    pixels = torch.from_numpy(np.array(images)).float() / 255
    small = functional.interpolate(pixels, size=SIZE, mode="area")
    return Pairs(small[:, :, None], torch.tensor(found))


def _rng(*stream: int) -> np.random.Generator:
    return np.random.default_rng([7, *stream])
