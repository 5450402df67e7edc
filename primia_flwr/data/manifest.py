"""A manifest: which image file shows which class, of which patient, at which site."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primia_flwr.storage import plain_csv

COLUMNS = ("path", "label", "patient", "site", "split")


@dataclass(frozen=True)
class Sample:
    """One image: its path below the manifest's root, class index, patient, site and split.

    Names of patients that differ only in their Unicode form or in outer white space are one: a
    split or a privacy ledger must not take one patient for two.
    """

    path: str
    label: int
    patient: str
    site: str = ""
    split: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "patient", unicodedata.normalize("NFKC", self.patient).strip())


@dataclass(frozen=True)
class Manifest:
    """Images below one folder, and the classes that their labels index.

    `synthetic` says that the images were drawn by formula and show no patient.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, indices: Iterable[int]) -> "Manifest":
        """Keep the samples at `indices`, in that order."""
        return self.with_samples([self.samples[int(index)] for index in indices])

    def with_samples(self, samples: Sequence[Sample]) -> "Manifest":
        """Keep root and classes, replace the samples."""
        return replace(self, samples=tuple(samples))

    def label_counts(self) -> npt.NDArray[np.int64]:
        """Images of every class: (C,) int64."""
        labels = [sample.label for sample in self.samples]
        return np.bincount(np.array(labels, dtype=np.int64), minlength=len(self.classes)).astype(
            np.int64
        )

    def patients(self) -> tuple[str, ...]:
        """Every patient once, sorted."""
        return tuple(sorted({sample.patient for sample in self.samples}))

    def patient_labels(self) -> dict[str, int]:
        """Class of most images of each patient (the lower index on a tie), sorted by patient."""
        votes: dict[str, Counter[int]] = {}
        for sample in self.samples:
            votes.setdefault(sample.patient, Counter())[sample.label] += 1
        return {
            patient: min(votes[patient], key=lambda label: (-votes[patient][label], label))
            for patient in sorted(votes)
        }

    def write_csv(self, path: Path) -> None:
        """Write path, class name, patient, site and split of every sample."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = plain_csv.writer(file)
            writer.writerow(COLUMNS)
            for sample in self.samples:
                label = self.classes[sample.label]
                writer.writerow((sample.path, label, sample.patient, sample.site, sample.split))


def shared_patients(parts: dict[str, Manifest]) -> dict[str, list[str]]:
    """Patients who occur in more than one part, each with the names of those parts."""
    places: dict[str, list[str]] = {}
    for name, part in parts.items():
        for patient in part.patients():
            places.setdefault(patient, []).append(name)
    return {patient: names for patient, names in sorted(places.items()) if len(names) > 1}
