"""What an exchange with sites is made of: messages, their sizes, rows, and times of work."""

from collections.abc import Sequence

from flwr.app import ArrayRecord, Message, RecordDict

from primia_flwr.messages.keys import ARRAYS
from primia_flwr.messages.records import num_bytes
from primia_flwr.runs.history import EVALUATED, FAILED, LATE, SiteRow
from strategies.aggregators.aggregator import Outcome, Request
from strategies.aggregators.reply_validator import Update


def take_in(outcome: Outcome, rows: Sequence[SiteRow]) -> None:
    """Put into an outcome what the sites' rows say."""
    outcome.rows = list(rows)
    outcome.resting = outcome.count(EVALUATED)
    outcome.images = sum((r.epochs or 0) * (r.num_examples or 0) for r in outcome.rows)


def complete(message: Message, arrays: ArrayRecord, server_round: int) -> Message:
    """Give a strategy's message the whole model, buffers included."""
    message.content = RecordDict({**message.content, ARRAYS: arrays})
    message.metadata.group_id = str(server_round)
    return message


def bytes_of(message: Message) -> int:
    """Return the bytes of a message's arrays; none of an error."""
    if not message.has_content():
        return 0
    return sum(num_bytes(record) for record in message.content.array_records.values())


def missing(request: Request, site: str, *, sent: bool) -> SiteRow:
    """Return the row of a site that has not answered a request, or was not reached."""
    if not sent:
        return SiteRow(request.server_round, site, FAILED, "the message could not be sent")
    reason = f"no answer within {request.timeout:g} s"
    return SiteRow(request.server_round, site, LATE, reason)


def mean_loss(rows: Sequence[SiteRow], updates: Sequence[Update]) -> float | None:
    """Return the sites' training loss, weighted like their updates; None where none tells it."""
    losses = {row.site: row.train_loss for row in rows}
    pairs = [(loss, u.weight) for u in updates if (loss := losses[u.site]) is not None]
    total = sum(weight for _, weight in pairs)
    return sum(loss * weight for loss, weight in pairs) / total if pairs else None


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return the length of the union of time spans."""
    length, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length
