"""Read any layout of the closed table into a manifest."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from primia_flwr.config.experiment.data import STUDY, DataConfig
from primia_flwr.config.rows import LAYOUTS, TASKS
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.names import NOBODY, is_own, is_placeholder, one_spelling
from primia_flwr.data.reading.labels import check_studies
from primia_flwr.data.selection import selected
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.printable import printable

_BETWEEN = re.compile(r"\s*[|;]\s*")
_PERHAPS_BETWEEN = re.compile(r"\s*(?:[,+&/]|\band\b)\s*")


def read_manifest(cfg: DataConfig, *, seed: int) -> Manifest:
    """List the images that `data.layout`, `data.root` and `data.manifest` name.

    All splits are listed; `data.split` is applied by the loaders. Files are not decoded. Images
    that `data.select` does not take are left out, spellings of one patient are one, and so are all
    whose name is a placeholder; the manifest's notes say so.

    Raises
    ------
    ConfigError
        If a needed key is empty, or the layout gives masks to a task without, or the other way.
    DataError
        If the folder or file is missing, empty, or does not follow the layout, a name is no
        text, or, where studies are judged, one is not known or has two labels.
    """
    manifest: Manifest = LAYOUTS[cfg.layout](cfg, seed=seed)
    _check_names(manifest)
    _check_masks(manifest, cfg)
    _check_several(manifest, cfg)
    named = _one_name_each(selected(manifest, cfg.select))
    if cfg.case == STUDY:
        check_studies(named)
    return named.noting(_combined(manifest.classes), _missing(manifest.classes))


def _check_names(manifest: Manifest) -> None:
    """Refuse names that no table, page or log could hold, before anything is done with them."""
    for what, names in (
        ("files", [name for s in manifest.samples for name in (s.path, s.mask)]),
        ("classes", manifest.classes),
        ("folders", [str(manifest.root)]),
        ("patients", manifest.patients()),
    ):
        wrong = [name for name in names if not _is_text(name)]
        if wrong:
            raise DataError(
                f"{printable(str(manifest.root), limit=200)}: the names of {len(wrong)} {what} are "
                f"not UTF-8 or break a line, e.g. {printable(wrong[0], limit=200)}; expected "
                "names that a table can hold: rename them (e.g. with convmv -f latin1 -t utf8)"
            )


def _check_masks(manifest: Manifest, cfg: DataConfig) -> None:
    if bool(manifest.mask_values) == TASKS[cfg.task].masked:
        return
    if manifest.mask_values:
        found, remedy = "masks; expected none", "task=segmentation"
    else:
        found, remedy = "no masks; expected one of each image", "data=paired"
    raise ConfigError(
        f"data.layout={cfg.layout} with data.task={cfg.task}: the data has {found}: set {remedy}"
    )


def _check_several(manifest: Manifest, cfg: DataConfig) -> None:
    if manifest.several == TASKS[cfg.task].several:
        return
    if manifest.several:
        found, remedy = "several findings an image; expected one label", "task=multilabel"
    else:
        found = "one label an image; expected several findings"
        remedy = "data=manifest with a column for each of data.classes, or data=chexpert, nih, "
        remedy += "padchest or mimic_cxr"
    raise ConfigError(
        f"data.layout={cfg.layout} with data.task={cfg.task}: the data has {found}: set {remedy}"
    )


def _is_text(name: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" or c in "\r\n\0\u2028\u2029\x85" for c in name)


def _one_name_each(manifest: Manifest) -> Manifest:
    """Take all spellings of a patient for one, and all placeholders."""
    counts = Counter(s.spelled for s in manifest.samples if not is_own(s.patient))
    nobody = {name: count for name, count in counts.items() if is_placeholder(name)}
    best = one_spelling({name: n for name, n in counts.items() if name not in nobody})
    name_of = {**best, **dict.fromkeys(nobody, NOBODY)}
    samples = [replace(s, patient=name_of.get(s.spelled, s.patient)) for s in manifest.samples]
    merged = sorted(f"{name!a} as {kept!a}" for name, kept in best.items() if name != kept)
    return manifest.with_samples(samples).noting(*_on_names(merged, nobody))


def _on_names(merged: Sequence[str], nobody: Mapping[str, int]) -> Iterator[str]:
    if merged:
        yield (
            f"{len(merged)} spelling(s) of patients differ from another in case, white space, form "
            f"or leading zeros only, e.g. {printable(merged[0], limit=200)}: each is taken for one "
            "patient"
        )
    if nobody:
        yield (
            f"the patient of {sum(nobody.values())} image(s) is a placeholder, e.g. "
            f"{printable(min(nobody) or 'nothing', limit=40)!r}: all count as one patient, "
            f"{NOBODY!r}; name the patients, or set data.patient_pattern"
        )


def _is_combined(name: str, classes: frozenset[str]) -> bool:
    """Whether a class is named as several labels: A|B, or A,B where A is a class, too."""
    if len([part for part in _BETWEEN.split(name) if part]) > 1:
        return True
    parts = [part.strip("[]'\" ") for part in _PERHAPS_BETWEEN.split(name)]
    return len(parts) > 1 and (name.startswith("[") or not classes.isdisjoint(parts))


def _missing(classes: tuple[str, ...]) -> str:
    found = [name for name in classes if name.lower() in ("nan", "n/a", "<na>", "nat", "null")]
    return f"class {found[0]!r}: is that a label that is missing?" if found else ""


def _combined(classes: tuple[str, ...]) -> str:
    """Say that labels of several findings are one class each."""
    found = [name for name in classes if _is_combined(name, frozenset(classes))]
    if not found:
        return ""
    return (
        f"{len(found)} class(es) combine several labels, e.g. {printable(found[0], limit=80)}: "
        "each combination is taken as one class of its own"
    )


def in_split(manifest: Manifest, split: str) -> Manifest:
    """Keep the images of one split (`auto`, `all`: every image).

    Raises
    ------
    DataError
        If the data has no such split.
    """
    if split in ("auto", "all"):
        return manifest
    kept = [sample for sample in manifest.samples if sample.split == split]
    if not kept:
        found = sorted({sample.split for sample in manifest.samples} - {""})
        raise DataError(
            f"data.split={split}: {manifest.root} has no such images; found the splits "
            f"{found or 'none'}: use data.split=auto or all"
        )
    return manifest.with_samples(kept)
