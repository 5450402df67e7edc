"""Which sites each secure sum was opened for, so that a repetition asks the same ones.

A site helps to unmask the sums of a round, and the sums that start from a model, for one list
of sites only, and no lists whose difference shows few sites (`secagg.journal`). Where shares
were asked for and the sum still did not come about, or the coordinator died in between, a
repetition over other sites would be refused for good. The list is written down before the
first share is asked for. Statistics and lists belong to a roster, whatever the run.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.runs.metadata import read_json
from primia_flwr.runs.secure_sums import STATISTICS
from primia_flwr.secagg.state.member_lists import largest_safe
from primia_flwr.storage.atomic import write_atomic

_FILE = "secure-opened.json"
_LISTS = "lists"


@dataclass(frozen=True)
class ListRule:
    """Which lists the sites answer besides one another, as far as the coordinator knows.

    `least`: sites that may be told apart, together; 0: any list is answered. `since`: lists of
    before this day (ISO) do not count. `among`: the sites of the run, whose statistics are one.
    """

    least: int = 0
    since: str = ""
    among: str = ""

    @classmethod
    def of(cls, experiment: Experiment) -> "ListRule":
        """Return that of an experiment: see `clients.site.identity.SecureSite.member_rule`."""
        secure = experiment.aggregation
        free = secure.allow_other_survivors or secure.degree
        among = ",".join(sorted(experiment.federation.sites))
        return cls(0 if free else secure.min_survivors, secure.member_lists_since, among)


class OpenedSums:
    """The lists of a run and, of the statistics, of its roster.

    Parameters
    ----------
    run_folder : Path or None
        Where the run's lists are kept; None: in memory.
    roster_folder : Path or None
        Where those of the statistics are kept; None: with the run's.
    rule : ListRule
        Which lists go together.
    """

    def __init__(
        self,
        run_folder: Path | None = None,
        roster_folder: Path | None = None,
        rule: ListRule | None = None,
    ) -> None:
        self._run = run_folder / _FILE if run_folder else None
        self._roster = roster_folder / _FILE if roster_folder else self._run
        self._rule = rule or ListRule()
        self._known: dict[str, list[str]] = {}
        self._lists: list[dict[str, Any]] = []

    @classmethod
    def of(cls, experiment: Experiment, run_folder: Path | None) -> "OpenedSums":
        """Return those of an experiment: a deployment's statistics lie beside its roster."""
        deployed = experiment.deployment.kind == "deployment"
        roster = Path(experiment.deployment.roster).parent if deployed else None
        return cls(run_folder, roster, ListRule.of(experiment))

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

    def largest_safe(self, present: Collection[str], roster_digest: bytes) -> list[str]:
        """Return which of the present sites may be asked for the next sum, sorted."""
        if not self._rule.least:
            return sorted(present)
        lists = self._answered(roster_digest)
        return sorted(largest_safe(present, lists, least=self._rule.least))

    def newest(self, roster_digest: bytes) -> list[str]:
        """Return the sites of the newest sum under the roster; nobody before the first."""
        return next(reversed(self._answered(roster_digest)), [])

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
            _add(file, new)
        if list(sites) in self._answered(roster_digest):
            return
        day = datetime.now(UTC).date().isoformat()
        self._lists.append({"roster": roster_digest.hex(), "day": day, "sites": list(sites)})
        if self._roster:
            written = read_json(self._roster).get(_LISTS, [])
            _add(self._roster, {_LISTS: [*written, self._lists[-1]]})

    def _answered(self, roster_digest: bytes) -> list[list[str]]:
        """Return the lists that count under a roster, the newest last."""
        written = read_json(self._roster).get(_LISTS, []) if self._roster else self._lists
        return [
            sorted(map(str, one["sites"]))
            for one in written
            if one["roster"] == roster_digest.hex() and one["day"] >= self._rule.since
        ]

    def _place(
        self, kind: str, server_round: int, roster_digest: bytes, base: bytes
    ) -> tuple[list[str], Path | None]:
        if kind == STATISTICS:
            rule = self._rule
            key = f"{STATISTICS} {roster_digest.hex()} {rule.since} {rule.among}"
            return [key], self._roster
        return [f"{kind} {server_round}", f"model {base.hex()}"], self._run


def _add(file: Path, new: dict[str, Any]) -> None:
    write_atomic(file, json.dumps({**read_json(file), **new}, indent=1) + "\n")
