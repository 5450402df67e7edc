"""The tables that `primia infer` writes: whole or not at all, for their owner's eyes only."""

import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import PRIVATE, write_together, writing

_Row = Mapping[str, Any]
JSON_TABLE, _CSV_TABLE = "predictions.json", "predictions.csv"
_JSON_ONLY = ("scores", "sha256")
_NO_ROWS = ["file", "prediction"]


def output_folder(name: str, *, resumable: bool = False) -> Path:
    """Return where the tables will go; the folder itself is made with them.

    `resumable`: whether the command can go on with an interrupted call.

    Raises
    ------
    ConfigError
        If it cannot be written, or holds the predictions of another call.
    """
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    output = Path(name or f"inference/{stamp}").expanduser().resolve()
    there = next(folder for folder in (output, *output.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(
            f"output={name or output}: {there} cannot be written; expected a folder in which "
            "a new one can be made"
        )
    if any((output / table).exists() for table in (JSON_TABLE, _CSV_TABLE)):
        advice = f"; if that call was interrupted, resume={name} goes on with it"
        raise ConfigError(
            f"output={name} holds the predictions of another call; expected a new folder: "
            f"nothing is overwritten{advice if resumable else ''}"
        )
    return output


def write_tables(output: Path, rows: Sequence[_Row], facts: _Row) -> None:
    """Write `predictions.csv` and `predictions.json` in place of earlier ones of this call.

    Each is whole at every moment: both are written beside the old ones, to the disk, before
    either takes its place.

    Raises
    ------
    DataError
        If they cannot be written, e.g. a full disk; what was there before is still there.
    """
    values = json.dumps({**facts, "predictions": rows}, indent=1) + "\n"
    contents = {JSON_TABLE: values, _CSV_TABLE: _csv(rows)}  # what a call goes on from comes first
    remedy = "expected a folder with free space; give another one as output=<folder>"
    with writing(output, error=DataError, remedy=remedy):
        output.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_together({output / name: text for name, text in contents.items()}, mode=PRIVATE)


def _word(value: Any) -> Any:
    """Return yes or no for a bool: a spreadsheet has its own words for true."""
    return ("no", "yes")[value] if isinstance(value, bool) else value


def _csv(rows: Sequence[_Row]) -> str:
    text = io.StringIO(newline="")
    columns = [name for name in rows[0] if name not in _JSON_ONLY] if rows else _NO_ROWS
    writer = plain_csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({name: _word(value) for name, value in row.items()} for row in rows)
    return text.getvalue()
