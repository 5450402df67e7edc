"""A results file as a store: what is measured once is not measured again.

A cell has a key, the hash of all settings that determine it, and says at which commit it was
measured and how busy the machine was; cells from before this store name the commit that published
them. What has the same key in the file is taken from there; a cell that had no time is tried again.
The key knows settings, not code: to measure a cell anew after a change of the code, take it out of
the file.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KEY, COMMIT, LOAD, NOT_RUN = "key", "commit", "load", "not_run"
NOT_BEGUN = "not begun"
NO_TIME = f"{NOT_BEGUN}: there was no time for it"
_CODE = ("primia_flwr", "clients", "strategies", "conf", "benchmarks/primia_bench")
_HERE = Path(__file__).parent


class Store:
    """The cells of a results file.

    Parameters
    ----------
    file : Path, optional
        Of an earlier run; nothing is known where there is none.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._commit = commit()
        self._cells: dict[str, dict[str, Any]] = {}
        if file is not None and file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            self._cells = {cell[KEY]: cell for cell in _cells_of(found) if KEY in cell}

    def known(self, key: str) -> dict[str, Any] | None:
        """Return the cell of a key, unless it was not measured for want of time."""
        cell = self._cells.get(key)
        late = cell is not None and str(cell.get(NOT_RUN, "")).startswith(NOT_BEGUN)
        return None if late else cell

    def add(self, key: str, found: Mapping[str, Any]) -> dict[str, Any]:
        """Take in what was just measured; return its cell."""
        load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
        cell = {**found, KEY: key, COMMIT: self._commit, LOAD: load}
        self._cells[key] = cell
        return cell


def key_of(settings: Mapping[str, Any]) -> str:
    """Return the key of settings: numbers, words and lists of them."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def commit() -> str:
    """Return the commit of the code, with a + where files differ from it; nothing without git."""
    head = _git("rev-parse", "--short=8", "HEAD")
    return head + ("+" if head and _git("status", "--porcelain", "-uno", *_CODE) else "")


def _git(*words: str) -> str:
    top = _HERE.parents[2]
    try:
        done = subprocess.run(["git", *words], check=False, capture_output=True, text=True, cwd=top)
    except OSError:
        return ""
    return done.stdout.strip()


def _cells_of(found: Any) -> Iterator[dict[str, Any]]:
    for row in found.get("rows", {}).values():
        for value in row.values():
            yield from (cell for cell in _listed(value) if isinstance(cell, dict))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
