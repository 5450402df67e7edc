"""What the headers of DICOM files say: whose image, which view, made for whom.

The only reader of headers without their pixels. Whatever is wrong with a header, it does not say.
"""

import io
import os
import re
import stat
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from primia_flwr.data.files.listing import is_dicom
from primia_flwr.storage.printable import printable

_MOST_INFLATED = 1 << 24  # bytes of a deflated file's beginning: a header, never the pixels
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LONGEST = 200
_CODED_VIEWS = {
    "antero-posterior": "AP",
    "postero-anterior": "PA",
    "left lateral": "LL",
    "right lateral": "RL",
}


@dataclass(frozen=True)
class Header:
    """Of one DICOM file, as text; empty where it does not say.

    `uid` and `study` are the SOP and the study instance UID, `view` the view position, `intent` the
    presentation intent type.
    """

    patient: str = ""
    modality: str = ""
    view: str = ""
    intent: str = ""
    burned_in: str = ""
    body_part: str = ""
    photometric: str = ""
    manufacturer: str = ""
    uid: str = ""
    study: str = ""


_KEYWORDS = {
    "patient": "PatientID",
    "modality": "Modality",
    "view": "ViewPosition",
    "intent": "PresentationIntentType",
    "burned_in": "BurnedInAnnotation",
    "body_part": "BodyPartExamined",
    "photometric": "PhotometricInterpretation",
    "manufacturer": "Manufacturer",
    "uid": "SOPInstanceUID",
    "study": "StudyInstanceUID",
}
_CAPITALS = ("modality", "view", "intent", "burned_in", "body_part", "photometric")


def read_header(path: Path) -> Header | None:
    """Return what a DICOM file's header says; None for any other file, or one that is not there."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return _read(os.fspath(path), found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1 << 17)
def _read(path: str, *_: int) -> Header | None:
    if not is_dicom(Path(path)):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = _parse(path)
            found = {name: _text(dataset, key) for name, key in _KEYWORDS.items()}
            found["view"] = found["view"] or _coded_view(dataset)
    except Exception:  # on arbitrary bytes the parser raises almost anything
        return Header()
    return Header(**{k: v.upper() if k in _CAPITALS else v for k, v in found.items()})


def _parse(path: str) -> Any:
    """Read the tags that are asked for; of a deflated file no more than its beginning."""
    import pydicom
    from pydicom.filereader import read_dataset, read_file_meta_info

    tags = [*_KEYWORDS.values(), "ViewCodeSequence", "SpecificCharacterSet"]
    with Path(path).open("rb") as file:
        is_whole = file.read(132).endswith(b"DICM")
    meta: Any = read_file_meta_info(path) if is_whole else {}
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=tags)
    with Path(path).open("rb") as file:
        file.seek(132 + 12 + int(meta["FileMetaInformationGroupLength"].value))
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), _MOST_INFLATED)
    return read_dataset(
        io.BytesIO(inflated),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, *_: tag == 0x7FE00010,
        specific_tags=[pydicom.tag.Tag(tag) for tag in tags],
    )


def _text(dataset: Any, keyword: str) -> str:
    """Return one element as text; nothing if it cannot be understood."""
    try:
        value = dataset.get(keyword)
        parts = value if isinstance(value, list | tuple | MutableSequence) else [value]
        text = "\\".join("" if part is None else str(part) for part in parts)
    except Exception:  # values are converted when they are asked for
        return ""
    return text.replace("\0", "").strip()[:_LONGEST]


def _coded_view(dataset: Any) -> str:
    for item in dataset.get("ViewCodeSequence") or ():
        meaning = " ".join(str(item.get("CodeMeaning", "")).lower().split())
        return _CODED_VIEWS.get(meaning, meaning[:_LONGEST].upper())
    return ""


@dataclass(frozen=True)
class Census:
    """How many DICOM headers say what.

    Each count by value, `""` where a header does not say. `twins` are groups of paths with one SOP
    instance UID, `shared_studies` the studies of several patients, with these.
    """

    headers: int = 0
    others: int = 0
    modality: dict[str, int] = field(default_factory=dict)
    view: dict[str, int] = field(default_factory=dict)
    intent: dict[str, int] = field(default_factory=dict)
    burned_in: dict[str, int] = field(default_factory=dict)
    body_part: dict[str, int] = field(default_factory=dict)
    photometric: dict[str, int] = field(default_factory=dict)
    manufacturer: dict[str, int] = field(default_factory=dict)
    studies: int = 0
    twins: list[list[str]] = field(default_factory=list)
    shared_studies: dict[str, list[str]] = field(default_factory=dict)


def take_census(headers: Mapping[str, Header | None], patients: Mapping[str, str]) -> Census:
    """Count what headers say, by path; `patients` of the same paths."""
    said = {path: header for path, header in headers.items() if header is not None}
    by_uid: dict[str, list[str]] = defaultdict(list)
    by_study: dict[str, set[str]] = defaultdict(set)
    for path, header in said.items():
        by_uid[header.uid].append(path)
        by_study[header.study].add(patients[path])
    for groups in (by_uid, by_study):
        groups.pop("", None)
    return Census(
        headers=len(said),
        others=len(headers) - len(said),
        **{name: _counts(getattr(header, name) for header in said.values()) for name in _COUNTED},
        studies=len(by_study),
        twins=sorted(sorted(paths) for paths in by_uid.values() if len(paths) > 1),
        shared_studies={s: sorted(p) for s, p in sorted(by_study.items()) if len(p) > 1},
    )


def misfits(headers: Mapping[str, Header | None], census: Census) -> list[str]:
    """Sentences on what does not belong among the others, with the setting that leaves it out."""
    said = {path: header for path, header in headers.items() if header is not None}

    def of(fits: Callable[[Header], bool]) -> list[str]:
        return [path for path, header in said.items() if fits(header)]

    usual = _usual_modality(census)
    part = _usual_body_part(census)
    frontal = of(lambda header: _is_view(header.view, _FRONTAL))
    return [
        sentence
        for paths, what in (
            (of(lambda h: bool(usual) and h.modality not in usual), _other_modality(census, usual)),
            (
                of(lambda h: bool(frontal) and _is_lateral(h.view)),
                "lateral view(s) among frontal ones: data.select.view=[PA,AP] leaves them out",
            ),
            (
                of(lambda h: h.intent == "FOR PROCESSING"),
                "image(s) FOR PROCESSING, raw, not as radiologists see them: "
                "data.select.intent=[FOR PRESENTATION] leaves them out",
            ),
            (
                of(lambda h: h.burned_in == "YES"),
                "image(s) say that text is burned in, perhaps a patient's name: "
                "data.select.burned_in=drop leaves them out",
            ),
            (
                of(lambda h: bool(part) and h.body_part not in ("", part)),
                f"image(s) of another body part than {_shown(part)}, that of most: take them out",
            ),
            ([p for twins in census.twins for p in twins], "image(s) share a SOP instance UID"),
        )
        if (sentence := _some(paths, what))
    ] + _shared_study(census)


def _some(paths: list[str], what: str) -> str:
    return f"{len(paths)} {what} (e.g. {printable(paths[0], limit=200)})" if paths else ""


def _shared_study(census: Census) -> list[str]:
    for patients in census.shared_studies.values():
        names = " and ".join(printable(name, limit=80) for name in patients[:2])
        return [
            f"{len(census.shared_studies)} study(ies) of several patients, e.g. of {names}: one "
            "patient under two names may be in training and test; correct the names"
        ]
    return []


def _usual_modality(census: Census) -> frozenset[str]:
    """Return the modalities of most images that name one, all kinds of radiographs together."""
    named = Counter({name: count for name, count in census.modality.items() if name})
    if not named:
        return frozenset()
    groups = [_RADIOGRAPHS, *(frozenset({name}) for name in sorted(named))]
    return max(groups, key=lambda group: sum(named[name] for name in group)) | {""}


def _usual_body_part(census: Census) -> str:
    """Return the body part of at least two thirds of the images that name one."""
    named = {name: count for name, count in census.body_part.items() if name}
    most = max(named, key=lambda name: named[name], default="")
    return most if most and 3 * named[most] >= 2 * sum(named.values()) else ""


def _other_modality(census: Census, usual: frozenset[str]) -> str:
    others = sorted(set(census.modality) - usual)
    wanted = sorted(name for name in set(census.modality) & usual if name)
    return (
        f"image(s) of another modality ({', '.join(map(_shown, others))}) among "
        f"{', '.join(map(_shown, wanted))}: data.select.modality=[{','.join(map(_shown, wanted))}] "
        "leaves them out"
    )


def _shown(text: str) -> str:
    return printable(text, limit=40)


def _is_lateral(view: str) -> bool:
    return _is_view(view, _LATERAL) and not _is_view(view, _FRONTAL)


def _is_view(view: str, names: frozenset[str]) -> bool:
    return not names.isdisjoint(re.findall("[A-Z]+", view))


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


_RADIOGRAPHS = frozenset({"CR", "DX", "RG", "DR"})
_FRONTAL = frozenset({"PA", "AP", "FRONTAL"})
_LATERAL = frozenset({"LL", "RL", "LAT", "LLAT", "RLAT", "LATERAL"})
_COUNTED = tuple(part.name for part in fields(Census) if part.type == dict[str, int])[:7]
