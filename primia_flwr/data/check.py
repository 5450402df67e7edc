"""Look through a data set before training: what is there, what is broken, what is double."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.census import Census, read_header, take_census
from primia_flwr.data.duplicates import duplicate_warnings
from primia_flwr.data.files.images import decode, depth_is_guessed
from primia_flwr.data.files.listing import file_digest, kind_of, read_head
from primia_flwr.data.files.masks import decode_partner
from primia_flwr.data.files.sequences import one_picture
from primia_flwr.data.files.store import describe_unreadable, in_parallel
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.misfits import misfits
from primia_flwr.data.names import is_own
from primia_flwr.data.reading.any_layout import in_split, read_manifest
from primia_flwr.data.reading.common import split_folders, split_of, sub_folders
from primia_flwr.data.reading.labels import check_findings
from primia_flwr.errors import DataError, PrimiaError
from primia_flwr.storage.printable import printable
from primia_flwr.tasks.findings import UNKNOWN


@dataclass(frozen=True)
class _FileFacts:
    """What one file turned out to be; `problem` is empty if it can be read.

    `last_class`: that its mask shows, where it has one.
    """

    path: str
    problem: str = ""
    kind: str = ""
    height: int = 0
    width: int = 0
    colour: bool = False
    file_hash: str = ""
    pixel_hash: str = ""
    depth_is_guessed: bool = False
    last_class: int = 0


@dataclass
class Findings:
    """The result of a check; `ok` unless one of `errors` makes training impossible.

    `left_out` counts the files that are not read, by suffix or reason, `census` what the headers of
    DICOM files say.
    """

    root: str = ""
    synthetic: bool = False
    images: int = 0
    patients: int = 0
    unknown_patients: int = 0
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    sites: dict[str, dict[str, int]] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: list[list[str]] = field(default_factory=list)
    contradicting_duplicates: list[list[str]] = field(default_factory=list)
    patients_on_both_sides: dict[str, list[str]] = field(default_factory=dict)
    patients_at_two_sites: dict[str, list[str]] = field(default_factory=dict)
    ignored_folders: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    census: Census = field(default_factory=Census)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether training on this data is possible."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {"ok": self.ok, **asdict(self)}


def check_data(
    cfg: DataConfig, *, seed: int, progress: Callable[[int, int], None] | None = None
) -> Findings:
    """Read and decode every image that the configuration names; collect all problems.

    `progress` is told how many images of how many are done. Raises nothing for bad data: every
    problem ends up in the findings.
    """
    try:
        manifest = in_split(read_manifest(cfg, seed=seed), cfg.split)
    except PrimiaError as error:
        return Findings(root=cfg.root or cfg.manifest, errors=[str(error)])
    headers = {s.path: read_header(manifest.root / s.path) for s in manifest.samples}
    facts = examine(manifest, frames=cfg.frames, workers=cfg.workers, progress=progress)
    pairs = zip(manifest.samples, facts, strict=True)
    good = [(sample, fact.last_class) for sample, fact in pairs if not fact.problem]
    if manifest.mask_values:
        good = [(replace(sample, label=shown), shown) for sample, shown in good]
    readable = manifest.with_samples([sample for sample, _ in good])
    findings = _describe(manifest, readable, facts)
    findings.census = take_census(headers, {s.path: s.patient for s in manifest.samples})
    findings.errors += _errors(findings, readable, cfg)
    findings.warnings += manifest.notes
    findings.warnings += _warnings(findings, readable, cfg)
    findings.warnings += _class_warnings(readable, cfg)
    findings.warnings += _absent(readable)
    findings.warnings += _one_class(findings, cfg)
    findings.warnings += _guessed(facts)
    findings.warnings += misfits(headers, findings.census)
    return findings


def examine(
    manifest: Manifest,
    *,
    frames: int = 1,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[_FileFacts]:
    """Decode every file at full size, with its mask, in the manifest's order."""
    found: list[_FileFacts] = []
    both = partial(_examine_both, manifest, frames)
    for facts in in_parallel(both, manifest.samples, workers=workers):
        found.append(facts)
        if progress:
            progress(len(found), len(manifest))
    return found


def _examine_both(manifest: Manifest, frames: int, sample: Sample) -> _FileFacts:
    facts = _examine(manifest.root, sample.path, frames)
    if facts.problem or not manifest.mask_values:
        return facts
    size = facts.height, facts.width
    try:
        classes = decode_partner(manifest, sample, size)
    except DataError as error:
        return _FileFacts(sample.path, str(error))
    return replace(facts, last_class=int(classes.max()))


def _examine(root: Path, path: str, frames: int) -> _FileFacts:
    try:
        pixels = decode(root / path) if frames == 1 else one_picture(root / path, frames)
        return _FileFacts(
            path,
            "",
            kind_of(read_head(root / path)) or "dicom",
            pixels.shape[0],
            pixels.shape[1],
            pixels.ndim == 3,
            file_digest(root / path),
            hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(),
            depth_is_guessed(root / path),
        )
    except (DataError, OSError) as error:
        return _FileFacts(path, str(error))


def _describe(manifest: Manifest, readable: Manifest, facts: list[_FileFacts]) -> Findings:
    good = [fact for fact in facts if not fact.problem]
    label_of = {sample.path: sample.findings or sample.label for sample in readable.samples}
    groups = _duplicates(good)
    return Findings(
        root=str(manifest.root),
        synthetic=manifest.synthetic,
        images=len(readable),
        patients=len(readable.patients()),
        unknown_patients=sum(is_own(sample.patient) for sample in readable.samples),
        classes=_by_finding(readable) if manifest.several else _by_class(readable),
        splits=_counts(readable, "split"),
        sites=_counts(readable, "site"),
        kinds=dict(sorted(Counter(fact.kind for fact in good).items())),
        sizes=_sizes(good),
        unreadable={fact.path: fact.problem for fact in facts if fact.problem},
        duplicates=groups,
        contradicting_duplicates=[g for g in groups if len({label_of[path] for path in g}) > 1],
        patients_on_both_sides=_shared(manifest, "split"),
        patients_at_two_sites=_shared(manifest, "site"),
        ignored_folders=_ignored(manifest),
        left_out=dict(manifest.left_out),
    )


def _counts(manifest: Manifest, attribute: str) -> dict[str, dict[str, int]]:
    """Images and patients by class, split or site; nothing if no sample has one."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in manifest.samples:
        value = getattr(sample, attribute)
        groups[manifest.classes[value] if attribute == "label" else str(value)].append(sample)
    if set(groups) <= {""}:
        return {}
    return {name: _counted(samples) for name, samples in groups.items()}


def _by_class(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Images and patients of each class, those without an image, too."""
    return {name: _counted([]) for name in manifest.classes} | _counts(manifest, "label")


def _by_finding(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Images and patients of each finding: where it is present, absent, or unknown."""
    return {
        f"{name}: {word}": _counted([s for s in manifest.samples if s.findings[k] == label])
        for k, name in enumerate(manifest.classes)
        for word, label in (("present", 1), ("absent", 0), ("unknown", UNKNOWN))
    }


def _counted(samples: Sequence[Sample]) -> dict[str, int]:
    return {"images": len(samples), "patients": len({sample.patient for sample in samples})}


def _sizes(facts: Iterable[_FileFacts]) -> dict[str, list[int]]:
    """Smallest, median and largest height and width."""
    shapes = np.array([(fact.height, fact.width) for fact in facts])
    if not len(shapes):
        return {}
    return {
        name: [
            int(shapes[:, axis].min()),
            int(np.median(shapes[:, axis])),
            int(shapes[:, axis].max()),
        ]
        for axis, name in enumerate(("height", "width"))
    }


def _duplicates(facts: Iterable[_FileFacts]) -> list[list[str]]:
    """Group files with the same pixels, hence also those with the same bytes."""
    groups: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        groups[fact.pixel_hash].append(fact.path)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _shared(manifest: Manifest, attribute: str) -> dict[str, list[str]]:
    """Patients with more than one split or site; train and val are one side of a split."""
    places: dict[str, set[str]] = defaultdict(set)
    for sample in manifest.samples:
        places[sample.patient].add(getattr(sample, attribute))
    return {name: sorted(found) for name, found in sorted(places.items()) if len(found) > 1}


def _ignored(manifest: Manifest) -> list[str]:
    """Folders beside `train`, `val`, `test` that no layout reads."""
    if not split_folders(manifest.root)[0][0] or not any(s.split for s in manifest.samples):
        return []
    names = (path.name for path in sub_folders(manifest.root))
    return [name for name in names if not split_of(name)]


def _errors(findings: Findings, readable: Manifest, cfg: DataConfig) -> list[str]:
    found = []
    if findings.unreadable and not cfg.skip_unreadable:
        found.append(describe_unreadable(findings.unreadable))
    present = [name for name, counts in findings.classes.items() if counts["images"]]
    if readable.several:
        found += [str(error) for error in _undecided(readable)]
    elif len(present) < (1 if cfg.classes or readable.mask_values else 2):
        found.append(
            f"{readable.root}: readable images of {len(present)} class(es) {present}; expected at "
            "least two: add images or correct data.root"
        )
    if findings.images and findings.patients < 2:
        found.append(
            f"{readable.root}: all images are of {findings.patients} patient, "
            f"{readable.samples[0].patient!r:.80}; expected at least two, to train and to validate "
            "with: name the patients (see data.patient_pattern)"
        )
    test = [p for p, sides in findings.patients_on_both_sides.items() if "test" in sides]
    if test and cfg.split == "auto":
        found.append(
            f"{len(test)} patient(s), e.g. {test[0]}, are in the test folder and outside it; "
            "expected each on one side: move them, or set data.split=all"
        )
    if findings.patients_at_two_sites:
        patient, sites = next(iter(findings.patients_at_two_sites.items()))
        found.append(
            f"{len(findings.patients_at_two_sites)} patient(s), e.g. {patient}, are at the sites "
            f"{' and '.join(sites)}; expected each at one: correct the manifest's site column"
        )
    return found


def _warnings(findings: Findings, readable: Manifest, cfg: DataConfig) -> list[str]:
    found = []
    if findings.unreadable and cfg.skip_unreadable:
        found.append(f"{len(findings.unreadable)} unreadable file(s) will be left out")
    found += duplicate_warnings(readable, findings.duplicates)
    if findings.unknown_patients:
        found.append(
            f"the patient of {findings.unknown_patients} image(s) is unknown, each counts as its "
            "own: two images of one patient may end up in training and test "
            f"({_patient_remedy(cfg)})"
        )
    found += _dominant(readable)
    if findings.ignored_folders:
        found.append(f"beside train/val/test these folders are ignored: {findings.ignored_folders}")
    return found


def _patient_remedy(cfg: DataConfig) -> str:
    if not cfg.manifest:
        return "see data.patient_pattern"
    return f"add the column {cfg.columns.get('patient', cfg.patient_column)!r} to the manifest"


def _dominant(manifest: Manifest) -> list[str]:
    """Warn of a patient who has most of the images: perhaps a name that all share."""
    counts = Counter(sample.patient for sample in manifest.samples)
    if len(counts) < 3 or len(manifest) < 10:
        return []
    ((patient, count),) = counts.most_common(1)
    if 2 * count <= len(manifest):
        return []
    return [
        f"{count} of {len(manifest)} images are of one patient, {patient!r:.80}; is that a name "
        "that several share?"
    ]


def _undecided(manifest: Manifest) -> Iterator[DataError]:
    """Yield why nothing can be learned of findings, if so."""
    try:
        if manifest.samples:
            check_findings(manifest)
    except DataError as error:
        yield error


def _shown(manifest: Manifest, sample: Sample) -> list[str]:
    """Return what an image shows: its class, or its findings."""
    if not manifest.several:
        return [manifest.classes[sample.label]]
    pairs = zip(manifest.classes, sample.findings, strict=True)
    return [name for name, label in pairs if label == 1]


def _guessed(facts: list[_FileFacts]) -> list[str]:
    guessed = [fact.path for fact in facts if fact.depth_is_guessed]
    if not guessed:
        return []
    return [
        f"{len(guessed)} image(s) of more than 8 bits do not say how many of them are used: their "
        f"brightness is guessed from the pixels (e.g. {guessed[0]}); export them as DICOM, or as "
        "PNG with sBIT"
    ]


def _one_class(findings: Findings, cfg: DataConfig) -> list[str]:
    present = [name for name, counts in findings.classes.items() if counts["images"]]
    if len(present) != 1 or not cfg.classes or TASKS[cfg.task].masked or TASKS[cfg.task].several:
        return []
    return [
        f"all images are of the class {present[0]!r:.80}: enough for one site of a "
        "federation whose experiment names all classes, not to train alone"
    ]


def _absent(manifest: Manifest) -> list[str]:
    """Warn of classes that nothing shows; the label of a mask is the last class in it."""
    shown = {sample.label for sample in manifest.samples}
    if manifest.several or len(shown) < (1 if manifest.mask_values else 2):
        return []
    first, what = (max(shown), "mask") if manifest.mask_values else (-1, "image")
    none = [name for k, name in enumerate(manifest.classes) if k > first and k not in shown]
    if not none:
        return []
    return [f"no {what} shows {printable(', '.join(none), limit=200)}: it cannot be learned here"]


def _class_warnings(manifest: Manifest, cfg: DataConfig) -> list[str]:
    """Warn of a class that is on one side of the given split only."""
    sides: dict[bool, set[str]] = {True: set(), False: set()}
    for sample in manifest.samples:
        sides[sample.split == "test"] |= set(_shown(manifest, sample))
    if cfg.split != "auto" or not sides[True] or not sides[False]:
        return []
    return [
        f"class(es) {sorted(names)} are {where} only; expected every class in train and in test"
        for names, where in (
            (sides[True] - sides[False], "in test"),
            (sides[False] - sides[True], "in train or val"),
        )
        if names
    ]
