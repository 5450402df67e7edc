"""How many images each data owner has asked for: written down first, then answered.

A data owner that deviates from the protocol learns about the weights with every query (Lehmkuhl et
al. 2021, Muse): a limit well below the width of the last layer bounds what it can take in a period.
"""

import json
import os
import threading
import time
from pathlib import Path

from primia_flwr.errors import PolicyRefusal, ServiceError
from primia_flwr.reading import parse_json, read_text, reading

_DAY = 86_400.0


class QueryLog:
    """A file of one JSON line a batch, and the limit that it enforces.

    Parameters
    ----------
    file : Path
        Append-only; made where it is missing.
    limit : int
        Images a data owner may have classified within `period` seconds.
    period : float
        In seconds.

    Raises
    ------
    ServiceError
        If the file cannot be read or written.
    """

    def __init__(self, file: Path, *, limit: int, period: float = _DAY) -> None:
        self._file, self._limit, self._period = file, limit, period
        self._lock = threading.Lock()
        self._seen: dict[str, list[tuple[float, int]]] = {}
        expected = (
            "one JSON object a line; no query is answered that cannot be counted; mend the file or "
            "give another one"
        )
        with reading(f"query log {file}", error=ServiceError, expected=expected):
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = read_text(file).split("\n") if file.exists() else [""]
            if lines.pop():
                raise ValueError("its last line is cut off")
            for line in lines:
                owner, at, images = _entry(line)
                self._seen.setdefault(owner, []).append((at, images))

    def used(self, data_owner: str) -> int:
        """Return how many images a data owner has had within the period."""
        since = time.time() - self._period
        return sum(images for at, images in self._seen.get(data_owner, []) if at > since)

    def check(self, data_owner: str, images: int) -> None:
        """Refuse more images than a data owner has left.

        Raises
        ------
        PolicyRefusal
            If they are too many.
        """
        left = max(self._limit - self.used(data_owner), 0)
        if images > left:
            raise PolicyRefusal(
                f"{data_owner} asks for {images} images and has {left} left of limit={self._limit} "
                f"in {self._period / 3600:g} hours; ask for fewer, wait, or ask the model owner"
            )

    def add(self, data_owner: str, images: int) -> None:
        """Count images that are about to be classified; on disk before this returns.

        Raises
        ------
        PolicyRefusal
            If they pass the limit.
        ServiceError
            If they cannot be written down.
        """
        now = time.time()
        entry = {"time": now, "data_owner": data_owner, "images": images}
        with self._lock:
            self.check(data_owner, images)
            try:
                with self._file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(entry) + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError as error:
                raise ServiceError(
                    f"query log {self._file} cannot be written ({error.strerror}); no query is "
                    "answered that cannot be counted"
                ) from None
            self._seen.setdefault(data_owner, []).append((now, images))


def _entry(line: str) -> tuple[str, float, int]:
    entry = parse_json(line)
    owner, at, images = entry["data_owner"], entry["time"], entry["images"]
    if (type(owner), type(at), type(images)) != (str, float, int) or images < 0:
        raise ValueError(f"it has the line {line!r:.80}")
    return owner, at, images
