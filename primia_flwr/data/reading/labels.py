"""From labels of several findings as tables hold them to a manifest."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from primia_flwr.config.experiment.data import STUDY, DataConfig
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.names import key_of
from primia_flwr.data.reading.common import is_synthetic
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.printable import printable
from primia_flwr.tasks.findings import UNKNOWN
from primia_flwr.tasks.findings.counts import rarest_of

UNCERTAIN, UNMENTIONED = -2, -3
"""What a label is beside 1 (present), 0 (absent) and `UNKNOWN`; neither stays in a manifest."""

MISSING = ("", "nan", "na", "n/a", "none", "null")
"""What a cell of nothing says, by `key_of`."""

_NUMBER = re.compile(r"([-+]?)0*([01])(?:[.,]0*)?")


@dataclass(frozen=True)
class Labelled:
    """An image, and of each finding 1, 0, `UNKNOWN`, `UNCERTAIN` or `UNMENTIONED`."""

    sample: Sample
    labels: tuple[int, ...]


def finding_names(cfg: DataConfig, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Return `data.classes`, which name the findings.

    Raises
    ------
    ConfigError
        If there are none, or one is called like another column (`taken`).
    """
    if not cfg.classes:
        raise ConfigError(
            f"data.classes=[] with data.task={cfg.task}; expected the findings in the order of "
            "the model's outputs, e.g. data.classes=[effusion,nodule]"
        )
    for name in cfg.classes:
        if name in taken:
            raise ConfigError(
                f"data.classes={list(cfg.classes)}; expected findings only, but {name!r} is "
                "another column: rename one of the two"
            )
    return tuple(cfg.classes)


def label_in(cell: str, where: str) -> int:
    """Return what a cell says: 1, 0, -1 (uncertain) or nothing, however it is spelled.

    Raises
    ------
    DataError
        If it says something else; `where` begins the sentence.
    """
    key = key_of(cell)
    if key in MISSING:
        return UNMENTIONED
    number = _NUMBER.fullmatch(key)
    if number and not (number[1] == "-" and number[2] == "0"):
        return UNCERTAIN if number[1] == "-" else int(number[2])
    if key in ("u", "uncertain"):
        return UNCERTAIN
    raise DataError(
        f"{where} is {printable(cell, limit=80)!r}; expected 1 (present), 0 (absent), -1 "
        "(uncertain) or nothing"
    )


def labelled_manifest(
    cfg: DataConfig, root: Path, rows: Sequence[Labelled], *, where: str
) -> Manifest:
    """Return the manifest of labelled images, by path.

    Uncertain labels become what `data.uncertain` says, unmentioned ones what `data.unmentioned`
    says. Images of which nothing is known are left out, and counted. Images are dealt by the rarest
    finding that is present in each.

    Raises
    ------
    DataError
        If an image is named twice, none lies below the root, a label is uncertain and may not be,
        or nothing is left.
    """
    _check_rows(where, root, rows)
    settled, notes = _settled(cfg, rows, where)
    known = [row for row in settled if any(label >= 0 for label in row.labels)]
    if not known:
        raise DataError(
            f"{where}: no image has a known label of {printable(', '.join(cfg.classes), limit=200)}"
            "; expected 1 or 0 somewhere: correct data.classes, or set data.unmentioned=negative"
        )
    labels = np.array([row.labels for row in known])
    samples = [
        replace(row.sample, label=int(group), findings=row.labels)
        for row, group in zip(known, rarest_of(labels), strict=True)
    ]
    ordered = tuple(sorted(samples, key=lambda sample: sample.path))
    manifest = Manifest(root, tuple(cfg.classes), ordered, is_synthetic(root), several=True)
    empty = len(settled) - len(known)
    notes += [f"{empty} image(s) of which no label is known are left out"] * bool(empty)
    absent = [name for name, n in zip(cfg.classes, (labels == 1).sum(axis=0), strict=True) if not n]
    notes += [f"no image shows {printable(', '.join(absent), limit=200)}"] * bool(absent)
    left_out = {"no known label": empty, "uncertain label": len(rows) - len(settled)}
    return manifest.noting(*notes).leaving(left_out)


def study_of(sample: Sample) -> str:
    """Return the name of an image's study, of its patient; nothing where none is known."""
    return f"{sample.patient}\n{key_of(sample.study)}" if sample.study else ""


def check_studies(manifest: Manifest) -> None:
    """Refuse images without a study, and studies of which two images say different things.

    Raises
    ------
    DataError
        If there is one.
    """
    first: dict[tuple[str, int], Sample] = {}
    for sample in manifest.samples:
        if not sample.study:
            raise DataError(
                f"{_shown(sample)} names no study with data.case={STUDY}; expected one of each "
                "image, in a manifest the column study or data.columns.study; or set "
                "data.case=image"
            )
        for k, label in enumerate(sample.findings):
            other = first.setdefault((study_of(sample), k), sample) if label >= 0 else sample
            if other.findings[k] != label:
                raise DataError(
                    f"{_shown(other)} and {_shown(sample)} are of one study, "
                    f"{printable(sample.study, limit=80)!r}, and say {other.findings[k]} and "
                    f"{label} of {printable(manifest.classes[k], limit=80)}; expected the same "
                    f"with data.case={STUDY}: correct the table, or set data.case=image"
                )


def _shown(sample: Sample) -> str:
    return printable(sample.path, limit=200)


def check_findings(manifest: Manifest) -> None:
    """Refuse data of which nothing can be learned.

    Raises
    ------
    DataError
        If no finding is present on one image and absent on another.
    """
    found = np.array([sample.findings for sample in manifest.samples])
    if not ((found == 1).any(axis=0) & (found == 0).any(axis=0)).any():
        raise DataError(
            f"{manifest.root}: none of {printable(', '.join(manifest.classes), limit=200)} is "
            "present on one image and absent on another; expected one that is: name other "
            "findings in data.classes, or set data.unmentioned=negative"
        )


def _check_rows(where: str, root: Path, rows: Sequence[Labelled]) -> None:
    """Refuse what no label can mend: no image with labels, one twice, or all somewhere else."""
    if not rows:
        raise DataError(
            f"{where}: none of its images has labels; expected a list of labels that is not empty, "
            "and tables of one release"
        )
    path, count = Counter(row.sample.path for row in rows).most_common(1)[0]
    if count > 1:
        raise DataError(
            f"{where}: names {printable(path, limit=200)} {count} times; expected each image once: "
            "take the other lines out"
        )
    if not any(os.path.exists(root / row.sample.path) for row in rows):
        raise DataError(
            f"{where}: none of its {len(rows)} image(s) lies below {root}, e.g. "
            f"{printable(path, limit=200)}; expected them there: correct data.root, from which the "
            "paths count"
        )


def _settled(
    cfg: DataConfig, rows: Sequence[Labelled], where: str
) -> tuple[list[Labelled], list[str]]:
    """Do with uncertain and unmentioned labels what the configuration says."""
    doubtful = sum(UNCERTAIN in row.labels for row in rows)
    what = f"{doubtful} image(s) have an uncertain label"
    if doubtful and cfg.uncertain == "refuse":
        raise DataError(
            f"{where}: {what}; expected none with data.uncertain=refuse; set it to keep (unknown), "
            "drop, negative or positive"
        )
    kept = [row for row in rows if cfg.uncertain != "drop" or UNCERTAIN not in row.labels]
    becomes = {
        UNCERTAIN: {"negative": 0, "positive": 1}.get(cfg.uncertain, UNKNOWN),
        UNMENTIONED: 0 if cfg.unmentioned == "negative" else UNKNOWN,
    }
    words = {"keep": "left unknown", "drop": "left out"}.get(
        cfg.uncertain, f"taken as {cfg.uncertain}"
    )
    settled = [
        replace(row, labels=tuple(becomes.get(label, label) for label in row.labels))
        for row in kept
    ]
    return settled, [f"{what}: {words} (data.uncertain)"] * bool(doubtful)
