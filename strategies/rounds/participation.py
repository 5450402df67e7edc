"""Who takes part: wait for enough sites, and take in those that join late."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.errors import FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs.history import FAILED, SiteRow
from strategies.aggregators.aggregator import Aggregator

# Seconds: between two looks at who is online; after enough sites are online, for the others to
# come before the first round; between two introductions of a node that gave no good answer;
# for a late joiner's answer, while the others wait.
PAUSE = 1.0
GRACE = 10.0
ASK_AGAIN = 30.0
_LATE_JOINER_TIMEOUT = 120.0


class Participation:
    """Keeps account of nodes and sites.

    Parameters
    ----------
    cfg : FederationConfig
        The roster's names, and how long to wait.
    grid : RosterGrid
        Learns the names and selects who is asked.
    aggregator : Aggregator
        Asks the nodes for their names.
    on_event : callable
        Called with a name and values when something is worth showing.
    """

    def __init__(
        self,
        cfg: FederationConfig,
        grid: RosterGrid,
        aggregator: Aggregator,
        on_event: Callable[..., None],
    ) -> None:
        self._cfg = cfg
        self._grid = grid
        self._aggregator = aggregator
        self._on_event = on_event
        self._asked: dict[int, float] = {}
        self._introduced: set[int] = set()
        self._not_introduced: dict[int, SiteRow] = {}

    def gather(self, server_round: int, needed: int, wanted: Collection[str] = ()) -> list[SiteRow]:
        """Wait until `needed` sites, those in `wanted` among them, are online; select all that are.

        Before the first round the others get a short time of grace, so that the statistics are
        those of all sites if all are about to come.

        Returns
        -------
        list of SiteRow
            Why the other sites of the roster are not asked.

        Raises
        ------
        FederationError
            If they are not online within `federation.wait_for_sites`, or never can be.
        """
        self._check_wanted(server_round, wanted)
        starts = time.monotonic()
        first = not self._introduced
        enough_since: float | None = None
        shown: list[str] | None = None
        while True:
            self._introduce(self._cfg.round_timeout if first else _LATE_JOINER_TIMEOUT, needed)
            present = self._grid.select()
            now = time.monotonic()
            if len(present) >= needed and set(wanted) <= set(present):
                enough_since = now if enough_since is None else enough_since
                complete = len(present) == len(self._cfg.sites)
                if complete or not first or now - enough_since >= min(GRACE, self._waiting()):
                    return self._absent(server_round, present)
            elif now - starts >= self._waiting():
                raise self._too_few(present, needed)
            if present != shown:
                self._on_event("waiting", online=present, needed=needed)
                shown = present
            time.sleep(PAUSE)

    def _check_wanted(self, server_round: int, wanted: Collection[str]) -> None:
        """Refuse to wait for sites that are no longer on the roster."""
        gone = sorted(set(wanted) - set(self._cfg.sites))
        if gone:
            raise FederationError(
                f"round {server_round} was begun with {', '.join(sorted(wanted))}, and "
                f"{', '.join(gone)} left the roster since; expected all of them, for what others "
                "would answer to the same model shows single sites; start anew with another seed, "
                "e.g. seed=2"
            )

    def _waiting(self) -> float:
        return self._cfg.wait_for_sites

    def _introduce(self, timeout: float, needed: int) -> None:
        """Ask nodes that are new, or that gave no good answer a while ago.

        A site that is busy, with work of a run that is over, does not keep the others waiting.
        """
        now = time.monotonic()
        nodes = [
            node
            for node in self._grid.online()
            if node not in self._introduced and now - self._asked.get(node, -ASK_AGAIN) >= ASK_AGAIN
        ]
        if not nodes:
            return
        timeout = min(timeout, self._cfg.round_timeout)
        self._on_event("introducing", sites=[self._grid.name_of(node) for node in nodes])
        found = self._aggregator.introduce(
            self._grid, nodes, timeout=timeout, enough=max(needed - len(self._introduced), 0)
        )
        self._take_in(found)

    def _take_in(self, found: Mapping[int, SiteRow | None]) -> None:
        """Note which nodes were introduced, and why the others were not."""
        for node, row in found.items():
            self._asked[node] = time.monotonic()
            if row is not None:
                self._not_introduced[node] = row
                self._on_event("site_reply", site=row.site, status=row.status, reason=row.reason)
            else:
                self._not_introduced.pop(node, None)
                self._introduced.add(node)

    def _absent(self, server_round: int, present: list[str]) -> list[SiteRow]:
        online = set(self._grid.online())
        rows = {
            row.site: replace(row, round=server_round)
            for node, row in self._not_introduced.items()
            if node in online and row.site not in present
        }
        for site in self._cfg.sites:
            if site not in present and site not in rows:
                rows[site] = SiteRow(server_round, site, FAILED, "offline")
        return [rows[site] for site in sorted(rows)]

    def _too_few(self, present: list[str], needed: int) -> FederationError:
        missing = "; ".join(f"{row.site}: {row.reason}" for row in self._absent(0, present))
        return FederationError(
            f"{len(present)} of at least {needed} sites are online after "
            f"federation.wait_for_sites={self._cfg.wait_for_sites:g} s ({missing}); start the "
            "missing SuperNodes, or have the sites that refuse approve this run, and go on with "
            "`primia train resume=<output folder>`"
        )
