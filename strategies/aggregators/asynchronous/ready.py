"""Which sites are at work on which round's model, and whose updates are ready."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from flwr.app import Message

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs.history import LATE, SiteRow
from strategies.aggregators.aggregator import Request
from strategies.aggregators.asynchronous.flush import Flush
from strategies.aggregators.exchange import bytes_of, missing
from strategies.aggregators.reply_validator import Update


@dataclass(frozen=True)
class _Sent:
    """A model at a site: in which round it was sent, when, and until when an answer counts."""

    site: str
    request: Request
    begun: float
    until: float


@dataclass(frozen=True)
class Ready:
    """An update that no round has taken, as it came, or at its site, where it is held.

    `request`: with which its site was sent the model that it is of. `update`: None where the site
    holds it.
    """

    row: SiteRow
    request: Request
    update: Update | None = None

    @property
    def site(self) -> str:
        """The name of its site."""
        return self.row.site

    @property
    def since(self) -> int:
        """The round in which its site was sent the model."""
        return self.request.server_round

    def staleness(self, server_round: int) -> int:
        """Return how many rounds were made since the site got the model."""
        return server_round - self.since

    def aged(self, server_round: int) -> SiteRow:
        """Return its row in a round that takes it."""
        return replace(self.row, staleness=self.staleness(server_round))


_Read = Callable[[Request, str, Message], Ready | SiteRow]


class ReadySites:
    """Sends models to who is idle, and keeps account of what comes of them.

    Parameters
    ----------
    settings : AggregationConfig
        Says which update is too old.
    read : callable
        Makes of a site's answer what is ready, or the row that says why nothing is.

    Attributes
    ----------
    waiting : list of Ready
        In the order in which they came.
    """

    def __init__(self, settings: AggregationConfig, read: _Read) -> None:
        self._settings, self._read = settings, read
        self._pending: dict[str, int] = {}  # node by message
        self._at: dict[int, _Sent] = {}  # by node
        self.waiting: list[Ready] = []

    @property
    def at_work(self) -> bool:
        """Whether anybody is."""
        return bool(self._pending)

    def busy(self) -> set[str]:
        """Return the sites that have a model, or whose update waits."""
        return {ready.site for ready in self.waiting} | {sent.site for sent in self._at.values()}

    def by_round(self) -> dict[int, list[str]]:
        """Return the sites that have, or have trained, the model of each round, sorted."""
        found: dict[int, list[str]] = {}
        for ready in self.waiting:
            found.setdefault(ready.since, []).append(ready.site)
        for sent in self._at.values():
            found.setdefault(sent.request.server_round, []).append(sent.site)
        return {number: sorted(sites) for number, sites in found.items()}

    def send(self, flush: Flush, outgoing: Sequence[Message], grid: RosterGrid) -> None:
        """Send the round's model to sites that are idle."""
        request = flush.request
        flush.outcome.bytes_down += sum(map(bytes_of, outgoing))
        sent = grid.send(list(outgoing), timeout=request.timeout)
        now = grid.now()
        for node in sent.values():
            self._at[node] = _Sent(grid.name_of(node), request, now, now + request.timeout)
        self._pending |= sent
        for node in grid.unsent if outgoing else ():
            flush.say(missing(request, grid.name_of(node), sent=False))

    def listen(self, flush: Flush, grid: RosterGrid, enough: Callable[[], bool]) -> None:
        """Take what comes until it is enough, or until nobody is at work any more."""
        while self.at_work and not enough():
            self._hear(flush, grid)
            self._give_up_late(flush, grid)
            if self.at_work and not enough():
                ends = min(self._at[node].until for node in self._pending.values())
                grid.pause(grid.now() - flush.started, ends - grid.now())

    def _hear(self, flush: Flush, grid: RosterGrid) -> None:
        """Look at what has come; of what comes at once, by the sites' names."""
        answers = sorted(grid.look(self._pending), key=lambda answer: grid.name_of(answer.node))
        for answer in answers:
            sent = self._at.pop(answer.node)
            flush.outcome.bytes_up += bytes_of(answer.message)
            found = self._read(sent.request, sent.site, answer.message)
            row = found.row if isinstance(found, Ready) else found
            held = isinstance(found, Ready) and found.update is None
            seconds = answer.arrived - sent.begun if held else row.seconds
            flush.worked(answer.arrived, seconds)
            if isinstance(found, Ready):
                self.waiting.append(found)
            else:
                flush.say(found)
        self.leave_out_old(flush)

    def _give_up_late(self, flush: Flush, grid: RosterGrid) -> None:
        """Wait no longer for a site that has had the round's timeout since it got its model."""
        late = [i for i, node in self._pending.items() if grid.now() >= self._at[node].until]
        for message in late:
            node = self._pending.pop(message)
            grid.missed(node)
            sent = self._at.pop(node)
            flush.say(missing(sent.request, sent.site, sent=True))

    def leave_out_old(self, flush: Flush) -> None:
        """Leave out updates that are older than `max_staleness`, and say so."""
        most, kept = self._settings.max_staleness, list[Ready]()
        for ready in self.waiting:
            staleness = ready.staleness(flush.request.server_round)
            if staleness <= most:
                kept.append(ready)
                continue
            reason = f"its model is {staleness} rounds old; aggregation.max_staleness={most}"
            flush.say(replace(ready.row, status=LATE, reason=reason, staleness=staleness))
        self.waiting = kept

    def take(self, sites: Collection[str]) -> list[Ready]:
        """Take the updates of sites out of those that wait; return them by the sites' names."""
        taken = [ready for ready in self.waiting if ready.site in sites]
        self.waiting = [ready for ready in self.waiting if ready.site not in sites]
        return sorted(taken, key=lambda ready: ready.site)

    def tell_busy(self, flush: Flush, grid: RosterGrid) -> None:
        """Book who is still at work when a round ends, and whose update waits."""
        now, number = grid.now(), flush.request.server_round
        for sent in self._at.values():
            flush.worked(now, now - flush.started)
            flush.busy(sent.site, f"at work on the model of round {sent.request.server_round}")
        for ready in self.waiting:
            flush.busy(ready.site, f"its update waits for round {number + 1}")
