"""What the coordinator did in each secure sum: one line of `secure-sums.jsonl` for each of them.

All of it is known to the coordinator anyway: who took part, who dropped out, how much travelled
and how exact the result is. `primia secagg show` and the report read it.
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path

from primia_flwr.runs.history import append_event
from primia_flwr.runs.secure_sums import FILE, SumRow
from primia_flwr.storage.journal import append_line

logger = logging.getLogger(__name__)


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
        """Append a row; a line before it that a crash cut short ends there."""
        try:
            append_line(self._folder / FILE, json.dumps(asdict(row)).encode())
        except OSError as error:
            logger.warning("%s cannot be written (%s)", FILE, error.strerror)
