"""A relay whose sites report nothing but their models: private runs, and sealed ones.

A site introduces itself by name. Nobody validates; the last model is the result.
"""

from collections.abc import Callable

from flwr.app import Message

from primia_flwr.flower.roster_grid import Answer, RosterGrid
from primia_flwr.messages.keys import CONFIG
from primia_flwr.runs.history import LATE, SiteRow
from strategies.aggregators.aggregator import Outcome, Request
from strategies.aggregators.relay.aggregator import RelayAggregator
from strategies.aggregators.relay.cycle import Cycle
from strategies.aggregators.reply_validator import checked
from strategies.aggregators.silent_sites import SilentSites


class ClosedRelay(SilentSites, RelayAggregator):
    """Hands on models and the heads of privacy ledgers."""

    def _verdict(self, request: Request, grid: RosterGrid) -> Outcome:
        return Outcome()

    def _message(self, cycle: Cycle, node: int, site: str, request: Request) -> Message:
        """Return what asks a site to train, the newest heads of all ledgers in it."""
        message = super()._message(cycle, node, site, request)
        self._tell_heads(message.content.config_records[CONFIG])
        return message

    def _ask(
        self,
        grid: RosterGrid,
        message: Message,
        request: Request,
        site: str,
        take: Callable[[Message], None],
    ) -> SiteRow | None:
        """Ask one site; return a row only where it gives no good answer."""
        number = request.server_round
        late = SiteRow(number, site, LATE, f"no answer within {request.timeout:g} s")
        rows: list[SiteRow | None] = []

        def on_answer(answer: Answer) -> None:
            self._learn(answer.message)
            self._note_link(site, answer.message)
            rows.append(checked(number, site, answer.message, lambda: take(answer.message)))

        grid.ask([message], timeout=request.timeout, on_answer=on_answer)
        return rows[0] if rows else late
