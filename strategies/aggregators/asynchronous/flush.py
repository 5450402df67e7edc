"""One asynchronous round as it goes: its rows, its bytes, and when somebody was at work."""

from collections.abc import Collection
from dataclasses import replace

from primia_flwr.runs.history import BUSY, SiteRow
from strategies.aggregators.aggregator import OnRow, Outcome, Request
from strategies.aggregators.exchange import covered, take_in


class Flush:
    """Keeps account of a round.

    Parameters
    ----------
    request : Request
        What the round asks for.
    on_row : callable
        Told each site's row once something has come of the site.
    started : float
        When the round began, by the grid's clock.

    Attributes
    ----------
    outcome : Outcome
        What it has brought so far, without rows.
    """

    def __init__(self, request: Request, on_row: OnRow, *, started: float) -> None:
        self.request, self.started, self.outcome = request, started, Outcome()
        self._on_row = on_row
        self._rows: dict[str, SiteRow] = {}
        self._spans: list[tuple[float, float]] = []

    def say(self, row: SiteRow) -> None:
        """Take a site's row, as one of this round."""
        row = replace(row, round=self.request.server_round)
        self._rows[row.site] = row
        self._on_row(row)

    def busy(self, site: str, reason: str) -> None:
        """Take note of a site of which nothing has come, or nothing that counts yet."""
        self._rows.setdefault(site, SiteRow(self.request.server_round, site, BUSY, reason))

    def worked(self, until: float, seconds: float | None) -> None:
        """Take note that a site was at work until then, for so long."""
        self._spans.append((max(until - (seconds or 0.0), self.started), until))

    def rows(self) -> list[SiteRow]:
        """Return the rows by the sites' names."""
        return [self._rows[site] for site in sorted(self._rows)]

    def finished(self, selected: Collection[str]) -> Outcome:
        """Return the outcome; who is busy and not selected any more is told of elsewhere."""
        known = (row for row in self.rows() if row.status != BUSY or row.site in selected)
        take_in(self.outcome, list(known))
        self.outcome.training_seconds = covered(self._spans)
        return self.outcome
