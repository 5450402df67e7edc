"""How many images each data owner has asked for: written down first, then answered.

A data owner that deviates from the protocol learns about the weights with every query (Lehmkuhl et
al. 2021, Muse): limits well below what reads the last layer bound what it can take, in a period
and of one model ever (`crypto.extraction`).

It counts by the name in the certificate, in lower case: another kit, a renewed certificate or a
restart changes nothing. A line counts once it is on the disk, and only then is answered. So a last
line without its end was answered with nothing: it is cut off, and a line says so.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.errors import PolicyRefusal, ServiceError
from primia_flwr.storage.atomic import writing
from primia_flwr.storage.journal import JournalFile
from primia_flwr.storage.reading import parse_json, reading

logger = logging.getLogger(__name__)

_DAY = 86_400.0
_BEGIN = b'{"time": '
_REMEDY = "no query is answered that cannot be counted"


@dataclass(frozen=True)
class _Query:
    """One batch; `model` is the SHA-256 of its weights, empty in lines of earlier versions."""

    time: float
    images: int
    model: str


class QueryLog:
    """A file of one JSON line a batch, and the limits that it enforces.

    Several processes may share the file: each reads what the others have written.

    Parameters
    ----------
    file : Path
        Append-only; made where it is missing.
    limit : int
        Images a data owner may have classified within `period` seconds, of whatever model.
    period : float
        In seconds.
    model : str
        SHA-256 of the weights that are served; a line that names none counts for every model.
    life_limit : int or None
        Images of that model that a data owner may have classified ever; None: no such limit.

    Raises
    ------
    ServiceError
        If the file cannot be read or written.
    """

    def __init__(
        self,
        file: Path,
        *,
        limit: int,
        period: float = _DAY,
        model: str = "",
        life_limit: int | None = None,
    ) -> None:
        self.file, self._limit, self._period = file, limit, period
        self._model, self._life_limit = model, life_limit
        self._lock = threading.Lock()
        self._seen: dict[str, list[_Query]] = {}
        self._read = 0  # bytes of whole lines
        with reading(f"query log {file}", error=ServiceError, expected="a file of its own"):
            is_there = file.exists()
            file.parent.mkdir(parents=True, exist_ok=True)
        if is_there:
            with self._open():
                pass  # a file that cannot be counted ends the start

    def used(self, data_owner: str) -> int:
        """Return how many images a data owner has had within the period."""
        since = time.time() - self._period
        return sum(query.images for query in self._of(data_owner) if query.time > since)

    def used_ever(self, data_owner: str) -> int:
        """Return how many images of this model a data owner has had."""
        known = ("", self._model)
        return sum(q.images for q in self._of(data_owner) if not self._model or q.model in known)

    def check(self, data_owner: str, images: int) -> None:
        """Refuse more images than a data owner has left.

        Raises
        ------
        PolicyRefusal
            If they are too many.
        ServiceError
            If the file cannot be read.
        """
        with self._open():
            self._check(data_owner, images)

    def add(self, data_owner: str, images: int) -> None:
        """Count images that are about to be classified; on disk before this returns.

        Raises
        ------
        PolicyRefusal
            If they pass a limit.
        ServiceError
            If they cannot be written down.
        """
        with self._open() as journal:
            self._check(data_owner, images)
            query = _Query(time.time(), images, self._model)
            told = {"time": query.time, "data_owner": data_owner}
            self._append(journal, {**told, "images": images, "model": query.model})
            self._count((data_owner, query))

    def _of(self, data_owner: str) -> list[_Query]:
        return self._seen.get(data_owner.lower(), [])

    def _check(self, data_owner: str, images: int) -> None:
        asks = f"{data_owner} asks for {images} images and has"
        left = max(self._limit - self.used(data_owner), 0)
        if images > left:
            raise PolicyRefusal(
                f"{asks} {left} left of limit={self._limit} in {self._period / 3600:g} hours; ask "
                "for fewer, wait, or ask the model owner"
            )
        if self._life_limit is None:
            return
        left = max(self._life_limit - self.used_ever(data_owner), 0)
        if images > left:
            raise PolicyRefusal(
                f"{asks} {left} left of life_limit={self._life_limit} of this model; ask for "
                "fewer, or ask the model owner"
            )

    @contextmanager
    def _open(self) -> Iterator[JournalFile]:
        """Lock the file, and read what has come to it; yield it to write to."""
        expected = f"one JSON object a line; {_REMEDY}; mend the file or give another one"
        with self._lock:
            with self._writing():
                self.file.parent.mkdir(parents=True, exist_ok=True)
                journal = JournalFile(self.file)
            with journal:
                with reading(f"query log {self.file}", error=ServiceError, expected=expected):
                    self._catch_up(journal)
                yield journal

    def _writing(self) -> AbstractContextManager[None]:
        remedy = f"{_REMEDY}; make room, mend the disk, or give another file"
        return writing(f"query log {self.file}", error=ServiceError, remedy=remedy)

    def _catch_up(self, journal: JournalFile) -> None:
        """Read the lines that were written since; cut off one that has no end."""
        if journal.size < self._read:
            raise ValueError("it is shorter than it was")
        for line in journal.lines(self._read):
            if not line.endswith(b"\n"):
                self._end_last_line(journal, line)
                return
            self._count(_entry(line))
            self._read += len(line)

    def _count(self, entry: tuple[str, _Query] | None) -> None:
        if entry is not None:
            self._seen.setdefault(entry[0].lower(), []).append(entry[1])

    def _end_last_line(self, journal: JournalFile, rest: bytes) -> None:
        """Count a whole line without its end; cut off half a line, and say so in the file."""
        begins_like_one = _BEGIN.startswith(rest[: len(_BEGIN)]) or not rest.strip(b"\0")
        if not begins_like_one:
            raise ValueError(f"its last line is {rest!r:.80}")
        with suppress(Exception):  # of half a line almost anything comes
            self._count(_entry(rest))
            self._write(journal, b"\n")
            self._read += len(rest)
            return
        self._cut_off(journal, rest)

    def _cut_off(self, journal: JournalFile, rest: bytes) -> None:
        journal.cut_off(self._read)
        logger.warning(
            "query log %s: half a last line of %d bytes, for which nothing was answered, is cut "
            "off; was the disk full?",
            self.file,
            len(rest),
        )
        cut = {"bytes": len(rest), "sha256": hashlib.sha256(rest).hexdigest()}
        try:
            self._append(journal, {"time": time.time(), "repaired": cut})
        except ServiceError as error:  # the disk is still full: the next query will tell
            logger.warning("%s", error)

    def _append(self, journal: JournalFile, entry: dict[str, Any]) -> None:
        """Write a line to the disk, whole or not at all."""
        self._write(journal, json.dumps(entry).encode() + b"\n")

    def _write(self, journal: JournalFile, line: bytes) -> None:
        with self._writing():
            journal.append(line)
        self._read += len(line)


def _entry(line: bytes) -> tuple[str, _Query] | None:
    """Return whose query a line is and what was asked; None if it notes a repair."""
    entry = parse_json(line)
    if "repaired" in entry and "data_owner" not in entry:
        return None
    owner, at, images = entry["data_owner"], entry["time"], entry["images"]
    model = entry.get("model", "")
    kinds = (type(owner), type(at), type(images), type(model))
    if kinds != (str, float, int, str) or images < 0:
        raise ValueError(f"it has the line {line!r:.80}")
    return owner, _Query(at, images, model)
