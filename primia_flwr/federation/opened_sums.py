"""Which sites each secure sum was opened for, so that a repetition asks the same ones.

A site helps to unmask the sums of a round, and the sums that start from a model, for one list
of sites only (`secagg.journal`). Where shares
were asked for and the sum still did not come about, or the coordinator died in between, a
repetition over other sites would be refused for good. The list is written down before the
first share is asked for. The statistics are asked once for a roster, whatever the run.
"""

import json
from pathlib import Path

from primia_flwr.config.schema import Experiment
from primia_flwr.evaluation.secure_sums import STATISTICS
from primia_flwr.federation.checkpoint import replace_file
from primia_flwr.federation.facts import read_json

FILE = "secure-opened.json"


class OpenedSums:
    """The lists of a run and, of the statistics, of its roster.

    Parameters
    ----------
    run_folder : Path or None
        Where the run's lists are kept; None: in memory.
    roster_folder : Path or None
        Where those of the statistics are kept; None: with the run's.
    """

    def __init__(self, run_folder: Path | None = None, roster_folder: Path | None = None) -> None:
        self._run = run_folder / FILE if run_folder else None
        self._roster = roster_folder / FILE if roster_folder else self._run
        self._known: dict[str, list[str]] = {}

    @classmethod
    def of(cls, experiment: Experiment, run_folder: Path | None) -> "OpenedSums":
        """Return those of an experiment: a deployment's statistics lie beside its roster."""
        deployed = experiment.deployment.kind == "deployment"
        return cls(run_folder, Path(experiment.deployment.roster).parent if deployed else None)

    def sites(self, kind: str, server_round: int, roster_digest: bytes, base: bytes) -> list[str]:
        """Return the sites for which a sum of the round or of the model `base` was opened, sorted.

        None if none was.
        """
        keys, file = self._place(kind, server_round, roster_digest, base)
        written = read_json(file) if file else {}
        for key in keys:
            known = self._known.get(key) or written.get(key)
            if isinstance(known, list):
                return sorted(map(str, known))
        return []

    def remember(
        self,
        kind: str,
        server_round: int,
        roster_digest: bytes,
        base: bytes,
        sites: tuple[str, ...],
    ) -> None:
        """Write down that shares are about to be asked for."""
        keys, file = self._place(kind, server_round, roster_digest, base)
        new = {key: list(sites) for key in keys}
        self._known |= new
        if file:
            content = {**read_json(file), **new}
            replace_file(file, (json.dumps(content, indent=1) + "\n").encode())

    def _place(
        self, kind: str, server_round: int, roster_digest: bytes, base: bytes
    ) -> tuple[list[str], Path | None]:
        if kind == STATISTICS:
            return [f"{STATISTICS} {roster_digest.hex()}"], self._roster
        return [f"{kind} {server_round}", f"model {base.hex()}"], self._run
