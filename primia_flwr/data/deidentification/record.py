"""What was removed, by file and tag, never by value; and which copy is whose, for the site."""

import io
import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from primia_flwr.data.deidentification.folder import Outcome
from primia_flwr.data.deidentification.masks import REMOVED
from primia_flwr.errors import DataError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import PRIVATE, make_folder, write_together, writing

_FOLDER = "deidentified"
_REMEDY = "expected a writable folder with free space; set data.cache_dir to a folder in one"


def write_record(private: Path, output: str, outcome: Outcome) -> Path:
    """Write the record of a run into the site's private folder; return its folder.

    `record.json` and `record.csv` say what was removed and replaced of each copy, and name no
    original; `originals.csv` says which copy is of which file and patient's pseudonym, and what was
    left out. All for their owner only.

    Raises
    ------
    DataError
        If they cannot be written.
    """
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    folder = private / _FOLDER / stamp
    number = 1
    while folder.exists():
        number += 1
        folder = private / _FOLDER / f"{stamp}-{number}"
    values = {"output": output, **summary(outcome), "files": _files(outcome)}
    contents = {
        "record.json": json.dumps(values, indent=1) + "\n",
        "record.csv": _tags(outcome),
        "originals.csv": _originals(outcome),
    }
    with writing(folder, error=DataError, remedy=_REMEDY):
        make_folder(folder)
        written = {folder / name: _as_bytes(text) for name, text in contents.items()}
        write_together(written, mode=PRIVATE)
    return folder


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return the counts of a run: no file and no patient is named."""
    tags = Counter(tag for one in outcome.done for tag in one.removed)
    return {
        "images": len(outcome.done),
        "masks": sum(bool(one.mask) for one in outcome.done),
        "patients": len({one.place.patient for one in outcome.done} - {""}),
        "patient_unknown": sum(not one.place.patient for one in outcome.done),
        "left_out": len(outcome.copied) - len(outcome.done) + len(outcome.left_out),
        "no_images": outcome.no_images,
        "burned_in": len(outcome.burned_in),
        "burned_in_unchecked": outcome.unchecked,
        "removed": dict(tags.most_common()),
    }


def problems(outcome: Outcome) -> dict[str, str]:
    """Return every image that was left out, by path, with the reason."""
    found = {one.place.source: one.problem for one in outcome.copied if one.problem}
    return {**outcome.left_out, **found}


def _files(outcome: Outcome) -> dict[str, Any]:
    files = {
        one.path: {
            "removed": list(one.removed),
            "replaced": list(one.replaced),
            "burned_in": one.burned_in,
        }
        for one in outcome.done
    }
    of_masks = {"removed": [REMOVED], "replaced": list[str](), "burned_in": ""}
    return files | {one.mask: of_masks for one in outcome.done if one.mask}


def _tags(outcome: Outcome) -> str:
    rows = [
        (one.path, tag, action)
        for one in outcome.done
        for action, tags in (("removed", one.removed), ("replaced", one.replaced))
        for tag in tags
    ]
    rows += [(one.mask, REMOVED, "removed") for one in outcome.done if one.mask]
    return _table(("file", "tag", "action"), rows)


def _originals(outcome: Outcome) -> str:
    rows = [
        (one.place.source, one.path, one.place.patient, one.burned_in, one.problem)
        for one in outcome.copied
    ]
    rows += [
        (one.place.mask, one.mask, one.place.patient, "", one.problem)
        for one in outcome.copied
        if one.place.mask
    ]
    rows += [(path, "", "", "", why) for path, why in outcome.left_out.items()]
    return _table(("original", "copy", "patient", "burned_in", "left_out"), rows)


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO(newline="")
    writer = plain_csv.writer(text)
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def _as_bytes(text: str) -> bytes:
    """Encode as UTF-8; names of files that are none keep their bytes."""
    return text.encode("utf-8", "surrogateescape")
