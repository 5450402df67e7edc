"""What the headers of DICOM files say: whose image, which view, made for whom.

The only reader of headers without their pixels. Whatever is wrong with a header, it does not say.
"""

import io
import os
import stat
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, MutableSequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from primia_flwr.data.files.listing import is_dicom

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
    presentation intent type; `sides` height and width of a pixel where they differ, e.g. `2 : 1`.
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
    sides: str = ""


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
_SIDES = ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_SQUARE = 0.01  # how much the sides of a square pixel may differ
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
            found["sides"] = next(filter(None, (_uneven(dataset, key) for key in _SIDES)), "")
    except Exception:  # on arbitrary bytes the parser raises almost anything
        return Header()
    return Header(**{k: v.upper() if k in _CAPITALS else v for k, v in found.items()})


def _parse(path: str) -> Any:
    """Read the tags that are asked for; of a deflated file no more than its beginning."""
    import pydicom
    from pydicom.filereader import read_dataset, read_file_meta_info

    tags = [*_KEYWORDS.values(), *_SIDES, "ViewCodeSequence", "SpecificCharacterSet"]
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


def _uneven(dataset: Any, keyword: str) -> str:
    """Return height and width of a pixel where an element says that they differ."""
    try:
        height, width = map(float, _text(dataset, keyword).split("\\"))
    except ValueError:
        return ""
    uneven = min(height, width) > 0 and abs(height - width) > _SQUARE * max(height, width)
    return f"{height:g} : {width:g}" if uneven else ""


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


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


_COUNTED = tuple(part.name for part in fields(Census) if part.type == dict[str, int])[:7]
