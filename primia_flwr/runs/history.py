"""What happened in a run: one row a round, one row a (round, site), and a stream of events.

`history.csv` and `sites.csv` are rewritten whole after every round; `events.jsonl` grows by one
line as things happen and is what a live view follows.
"""

import io
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from primia_flwr.errors import CheckpointError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import write_atomic, writing
from primia_flwr.storage.journal import append_line
from primia_flwr.storage.reading import parse_json, reading

logger = logging.getLogger(__name__)

Event = dict[str, Any]
OK, EVALUATED = "ok", "evaluated"
REFUSED, FAILED, REJECTED, LATE = "refused", "failed", "rejected", "late"
DIVERGED, BUSY = "diverged", "busy"


@dataclass
class RoundRow:
    """One line of history.csv.

    `validation`: metrics of the global model after this round on all sites' validation images,
    by the names that the task gives them, empty until they are known; columns `val_*`. `sites`:
    good replies; `failed`: sites of the roster without one.
    `images`: trained on, repeats counted. `seconds_outside_training`: time of the round in which
    no site was training. `best` marks the round whose model is the best so far.
    """

    round: int
    seconds: float = 0.0
    seconds_outside_training: float = 0.0
    train_loss: float | None = None
    validation: dict[str, float] = field(default_factory=dict)
    sites: int = 0
    failed: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    images_per_second: float | None = None
    images: int = 0
    best: bool = False


@dataclass
class SiteRow:
    """One line of sites.csv: what one site answered in one round.

    `status`: ok (its update was averaged), evaluated (it only validated), refused (its policy),
    failed (an error, or offline), diverged (its training gave no usable numbers), rejected (by the
    screening), late (no answer in time), busy (asynchronously: still at work, or its update waits).
    `staleness`: asynchronously, rounds made between the model that it got and this one.
    """

    round: int
    site: str
    status: str
    reason: str = ""
    num_examples: int | None = None
    num_batches: int | None = None
    epochs: float | None = None
    train_loss: float | None = None
    validation: dict[str, float] = field(default_factory=dict)
    stopped_early: bool | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    staleness: int | None = None

    @property
    def good(self) -> bool:
        """Whether the site's answer counts."""
        return self.status in (OK, EVALUATED)


def flat(row: RoundRow | SiteRow, metrics: Sequence[str]) -> dict[str, Any]:
    """Return a row by the names of its columns, with one `val_*` for each metric."""
    values: dict[str, Any] = {}
    for part in fields(row):
        value = getattr(row, part.name)
        if part.name == "validation":
            values |= {f"val_{name}": value.get(name) for name in metrics}
        else:
            values[part.name] = value
    return values


class History:
    """The rows of a run and their files.

    Parameters
    ----------
    folder : Path
        The run's output folder; created if missing.
    metrics : sequence of str
        What the task judges a model by.
    """

    def __init__(self, folder: Path, metrics: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.metrics = tuple(metrics)
        self.rounds: list[RoundRow] = []
        self.sites: list[SiteRow] = []

    def write(self) -> None:
        """Rewrite history.csv and sites.csv.

        Raises
        ------
        CheckpointError
            If they cannot be written; the old ones stay.
        """
        remedy = "expected a writable folder with free space; make room and resume the run"
        for name, empty, rows in (
            ("history.csv", RoundRow(0), self.rounds),
            ("sites.csv", SiteRow(0, "", ""), self.sites),
        ):
            columns = list(flat(empty, self.metrics))
            text = _to_csv([flat(row, self.metrics) for row in rows], columns)
            path = self._folder / name
            with writing(path, error=CheckpointError, remedy=remedy):
                write_atomic(path, text)

    def event(self, name: str, **values: object) -> None:
        """Append one line to events.jsonl, with the wall time in seconds since 1970."""
        append_event(self._folder, name, **values)

    def mark_best(self, best_round: int) -> None:
        """Mark the one round whose model is the best so far."""
        for row in self.rounds:
            row.best = row.round == best_round

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {
            "rounds": [asdict(row) for row in self.rounds],
            "sites": [asdict(row) for row in self.sites],
        }

    def restore(self, values: dict[str, Any]) -> Self:
        """Take the rows of `to_dict`'s result in place of the present ones.

        Raises
        ------
        CheckpointError
            If it is anything else.
        """
        expected = "what this version wrote; start the run again without resume"
        with reading("the history in a checkpoint", error=CheckpointError, expected=expected):
            rounds = [RoundRow(**row) for row in values["rounds"]]
            sites = [SiteRow(**row) for row in values["sites"]]
        self.rounds, self.sites = rounds, sites
        return self


class EventTail:
    """Reads the lines that were added to a JSON-lines file since the last call.

    With `whole`, the first call gives what was there before, too.
    """

    def __init__(self, path: Path, *, whole: bool = False) -> None:
        self._path = path
        self._position = path.stat().st_size if path.exists() and not whole else 0

    def new(self) -> list[Event]:
        """Return the complete new lines, oldest first; without those that are no event."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._position += len(complete)
        return [event for line in complete.splitlines() if (event := _event(line))]


def _event(line: bytes) -> Event | None:
    try:
        value = parse_json(line, finite=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None


def append_event(folder: Path, name: str, **values: object) -> None:
    """Append one line to the run's events.jsonl, with the wall time in seconds since 1970."""
    line = json.dumps({"event": name, "time": round(time.time(), 3), **values})
    try:
        append_line(folder / "events.jsonl", line.encode())
    except OSError as error:
        logger.warning("events.jsonl cannot be written (%s)", error.strerror)


def _to_csv(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    buffer = io.StringIO()
    writer = plain_csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    return int(value) if isinstance(value, bool) else value
