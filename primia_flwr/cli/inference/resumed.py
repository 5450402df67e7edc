"""What an interrupted `primia infer` left: rows that are kept by a call that goes on with the rest.

Nothing secret is kept: a call that goes on opens sessions of its own, with fresh randomness.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.cli.inference.predictions import JSON_TABLE
from primia_flwr.data.files.listing import file_digest
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.reading import check_entry, parse_json, read_text, reading

_MAX_BYTES = 1 << 30
_NUMBER: tuple[type, ...] = (int, float)
_FACTS: Mapping[str, tuple[type, ...]] = {
    "audit": (bool,),
    "model": (dict,),
    "classes": (list,),
    "sessions": (list,),
    "bytes_preprocessing": (int,),
    "seconds_in_all": _NUMBER,
    "rounds": (int,),
    "predictions": (list,),
}
_ROW: Mapping[str, tuple[type, ...]] = {
    "file": (str,),
    "sha256": (str,),
    "audit": (str,),
    "plausible": (bool,),
    "seconds": _NUMBER,
    "bytes_sent": (int,),
    "bytes_received": (int,),
}


@dataclass(frozen=True)
class Kept:
    """The rows of an interrupted call, and its facts; none of a call that begins."""

    folder: Path
    rows: Sequence[dict[str, Any]] = ()
    facts: Mapping[str, Any] | None = None

    def check_model(self, model: Mapping[str, Any], classes: Sequence[str]) -> None:
        """Refuse another model than that of the rows: one table has the opinions of one model.

        Raises
        ------
        DataError
            If the model owner offers another one.
        """
        if self.facts is None or (self.facts["model"], self.facts["classes"]) == (
            model,
            list(classes),
        ):
            return
        raise DataError(
            f"the model owner serves another model now ({model['sha256']:.16}…, or calibrated "
            f"otherwise); expected that of {self.folder} "
            f"({self.facts['model'].get('sha256')!s:.16}…): call again without resume, with "
            "another output folder"
        )

    def left(self, files: Sequence[Path], root: Path) -> list[Path]:
        """Return the files that have no row yet.

        Raises
        ------
        DataError
            If a file that has one is another one now.
        """
        known = {row["file"]: row["sha256"] for row in self.rows}
        left = []
        for file in files:
            name = file.relative_to(root).as_posix()
            if name not in known:
                left.append(file)
            elif file_digest(file) != known[name]:
                raise DataError(
                    f"{name} is not the file any more of which {self.folder} has the result; "
                    "expected it unchanged: call again without resume, with another output folder"
                )
        return left


def read_kept(folder: Path, *, audit: bool) -> Kept:
    """Read the tables of an interrupted call.

    Raises
    ------
    ConfigError
        If there are none, or it was audited otherwise.
    DataError
        If they are not as this version writes them.
    """
    file = folder / JSON_TABLE
    if not file.is_file():
        raise ConfigError(
            f"resume={folder}: there is no {JSON_TABLE}; expected the output folder of an "
            "interrupted call of primia infer; without resume a call begins anew"
        )
    expected = "what an interrupted primia infer of this version left; call again without resume"
    with reading(file, error=DataError, expected=expected):
        facts = parse_json(read_text(file, at_most=_MAX_BYTES), half_characters=True)
        check_entry(facts, _FACTS)
        rows = facts.pop("predictions")
        for row in rows:
            check_entry(row, _ROW)
        if len({row["file"] for row in rows}) != len(rows) or facts.get("watched"):
            raise ValueError("it is the table of a watch, or has a file twice")
        if any(row.keys() != rows[0].keys() for row in rows):
            raise ValueError("its rows differ in their columns")
    if facts["audit"] != audit:
        was = str(facts["audit"]).lower()
        raise ConfigError(
            f"audit={str(audit).lower()} with resume={folder}, whose rows have audit={was}; "
            f"expected audit={was}"
        )
    for draft in folder.glob(".predictions.*"):  # of a process that was killed while it wrote
        with contextlib.suppress(OSError):
            draft.unlink()
    return Kept(folder, rows, facts)
