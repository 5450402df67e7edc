"""What the coordinator did in each secure sum: one line of `secure-sums.jsonl` for each of them.

All of it is known to the coordinator anyway: who took part, who dropped out, how much travelled
and how exact the result is. `primia secagg show` and the report read it.
"""

import json
import logging
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from primia_flwr.federation.history import append_event

logger = logging.getLogger(__name__)

FILE = "secure-sums.jsonl"
# What a sum is of
STATISTICS, TRAIN, EVALUATE = "statistics", "train", "evaluate"


@dataclass
class SumRow:
    """One instance of the protocol.

    `kind`: statistics, train or evaluate. `asked`, `members`, `survivors`, `dropped`: names of
    the sites that were asked, that could mask (U2), that are in the sum, that left in between.
    `neighbours`: fewest peers with which a site shares masks. `signatures`: on a survivor list
    with drops. `numbers`: names of the sums besides the update. `entries`: of the update, each
    off by at most `error_bound` in the mean. `reason`: why there is no sum, else empty.
    `bytes_up`, `bytes_down`: of all sites, the preparation of the next instance included.
    `seconds`: wall time by step. `audit_error`: largest error found by an audit.
    """

    round: int
    kind: str
    instance: int
    asked: list[str]
    members: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    threshold: int = 0
    neighbours: int = 0
    min_survivors: int = 0
    max_colluding: int = 0
    signatures: int = 0
    reason: str = ""
    numbers: list[str] = field(default_factory=list)
    entries: int = 0
    step: float = 0.0
    weight_sum: float = 0.0
    error_bound: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    audit_error: float | None = None

    @property
    def good(self) -> bool:
        """Whether there is a sum."""
        return not self.reason


class SumLog:
    """Writes the rows, and tells the run's events of each step.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def step(self, name: str, *, server_round: int, instance: int, sites: list[str]) -> None:
        """Tell that a step of the protocol begins: keys, vectors, signatures or shares."""
        append_event(
            self._folder,
            "secure_step",
            step=name,
            round=server_round,
            instance=instance,
            sites=sites,
        )

    def add(self, row: SumRow) -> None:
        """Append a row."""
        try:
            with (self._folder / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
        except OSError as error:
            logger.warning("%s cannot be written (%s)", FILE, error.strerror)


def read_sums(folder: Path) -> list[SumRow]:
    """Return the rows of a run; none where it did not aggregate securely.

    A line that a crash cut short is left out.
    """
    known = {item.name for item in fields(SumRow)}
    rows = []
    file = folder / FILE
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            values = json.loads(line)
            rows.append(SumRow(**{key: values[key] for key in values.keys() & known}))
        except (ValueError, TypeError, AttributeError):
            logger.warning("a line of %s is unreadable and left out", file)
    return rows
