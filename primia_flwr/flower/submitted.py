"""What a run folder says of its run at the SuperLink: which one it is, and who watches it here."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from primia_flwr.errors import FederationError
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import parse_json, read_text, reading

_FILE = "submitted.json"


@dataclass(frozen=True)
class Submitted:
    """The run at the SuperLink (0: not submitted yet), and the process that launched it.

    `began`: when that process started, in seconds since 1970, since a number of a process is
    given again to another one.
    """

    run_id: int
    pid: int
    began: float

    @classmethod
    def by_this_process(cls, run_id: int = 0) -> "Submitted":
        """Return what this process submits."""
        return cls(run_id, os.getpid(), psutil.Process().create_time())

    def write(self, folder: Path) -> None:
        """Write it into Flower's folder of a run."""
        write_atomic(folder / _FILE, json.dumps(vars(self)) + "\n", mode=PRIVATE)

    def process(self) -> psutil.Process | None:
        """Return the process that watches the run, if it is still there."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.began) < 1.0
            ended = process.status() == psutil.STATUS_ZOMBIE  # nobody has asked for its exit code
            return process if same and not ended else None
        except (psutil.Error, ValueError, OverflowError):
            return None


def submitted(run_dir: Path) -> Submitted | None:
    """Return what was submitted from a run folder; None where nothing was.

    Raises
    ------
    FederationError
        If the file cannot be read.
    """
    file = run_dir / "flower" / _FILE
    if not file.exists():
        return None
    with reading(file, error=FederationError, expected="what the launcher wrote"):
        found = Submitted(**parse_json(read_text(file)))
        if (type(found.run_id), type(found.pid), type(found.began)) != (int, int, float):
            raise TypeError("an entry is of another type")
        return found
