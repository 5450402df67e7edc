"""A manifest: which image file shows which class, of which patient, at which site."""

import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import PRIVATE, make_folder, write_atomic

NO_FINDING = "(none)"


@dataclass(frozen=True)
class Sample:
    """One image: its path below the manifest's root, class index, patient, site, split and mask.

    `mask`: the path of its mask, where the label is one; `label` then is by what images are dealt.
    So it is where there are several: `findings` says of each class 1, 0, or -1 (unknown).

    `study`: the examination that it belongs to, of its patient, where that is known.

    Names of patients that differ only in their Unicode form or in outer white space are one: a
    split or a privacy ledger must not take one patient for two. `spelled` is the name as it came.
    """

    path: str
    label: int
    patient: str
    site: str = ""
    split: str = ""
    mask: str = ""
    findings: tuple[int, ...] = ()
    study: str = ""
    spelled: str = field(init=False, default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spelled", self.patient)
        object.__setattr__(self, "patient", unicodedata.normalize("NFKC", self.patient).strip())


@dataclass(frozen=True)
class Manifest:
    """Images below one folder, and the classes that their labels index.

    `synthetic` says that the images were drawn by formula and show no patient. `notes` are
    sentences for whoever reads the data: what was left out or taken for one. `digests` holds what
    images of the same picture share, by path, where that is known; `left_out` counts files that
    are not read, by suffix or reason. `mask_values`: the value of each class in the masks, which
    every image then has; empty where images have none. `several`: an image may show several
    classes, or none.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    synthetic: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)
    digests: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)
    mask_values: tuple[int, ...] = ()
    several: bool = False

    @property
    def strata(self) -> tuple[str, ...]:
        """What `Sample.label` indexes, by which images are dealt: classes, and perhaps none."""
        return (*self.classes, NO_FINDING) if self.several else self.classes

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, indices: Iterable[int]) -> "Manifest":
        """Keep the samples at `indices`, in that order."""
        return self.with_samples([self.samples[int(index)] for index in indices])

    def with_samples(self, samples: Sequence[Sample]) -> "Manifest":
        """Keep root and classes, replace the samples."""
        return replace(self, samples=tuple(samples))

    def leaving(self, counts: Mapping[str, int]) -> "Manifest":
        """Add to the counts of what is not read."""
        merged = Counter(self.left_out) + Counter({k: n for k, n in counts.items() if n > 0})
        return replace(self, left_out=dict(sorted(merged.items())))

    def noting(self, *notes: str) -> "Manifest":
        """Add sentences for whoever reads the data; empty ones do not count."""
        return replace(self, notes=(*self.notes, *filter(None, notes)))

    def people(self) -> tuple[str, ...]:
        """Who is on every image: patients who share a picture are one, named as their first.

        The same image under two names is one person's, or nobody knows whose; in two parts it
        would be a leak.
        """
        root: dict[str, str] = {}
        holder: dict[str, str] = {}
        for sample in self.samples:
            digest = self.digests.get(sample.path, "")
            if digest and holder.setdefault(digest, sample.patient) != sample.patient:
                ends = sorted((_root(root, sample.patient), _root(root, holder[digest])))
                root[ends[1]] = ends[0]
        return tuple(_root(root, sample.patient) for sample in self.samples)

    def label_counts(self) -> npt.NDArray[np.int64]:
        """Images of every one of `strata`: int64."""
        labels = [sample.label for sample in self.samples]
        return np.bincount(np.array(labels, dtype=np.int64), minlength=len(self.strata)).astype(
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
        """Write path, label, patient, site and split of every sample, for the owner only.

        The label is the class's name or the path of the mask; of several classes there is a column
        each: 1, 0 or nothing. A last column has the study, where one is known.
        """
        text = io.StringIO(newline="")
        writer = plain_csv.writer(text)
        columns = self.classes if self.several else ("mask" if self.mask_values else "label",)
        studied = any(sample.study for sample in self.samples)
        writer.writerow(("path", *columns, "patient", "site", "split", *["study"] * studied))
        for sample in self.samples:
            label = self._label_cells(sample)
            facts = (sample.patient, sample.site, sample.split, *[sample.study] * studied)
            writer.writerow((sample.path, *label, *facts))
        make_folder(path.parent)
        write_atomic(path, text.getvalue(), mode=PRIVATE)

    def _label_cells(self, sample: Sample) -> Sequence[str]:
        if self.several:
            return ["" if one < 0 else str(one) for one in sample.findings]
        return (sample.mask if self.mask_values else self.classes[sample.label],)


def _root(parents: Mapping[str, str], name: str) -> str:
    while parents.get(name, name) != name:
        name = parents[name]
    return name


def shared_patients(parts: dict[str, Manifest]) -> dict[str, list[str]]:
    """Patients who occur in more than one part, each with the names of those parts."""
    places: dict[str, list[str]] = {}
    for name, part in parts.items():
        for patient in part.patients():
            places.setdefault(patient, []).append(name)
    return {patient: names for patient, names in sorted(places.items()) if len(names) > 1}
