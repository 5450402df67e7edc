"""Who is there, where a site tells nothing but its name."""

from collections.abc import Callable

from flwr.app import Message

from primia_flwr.flower.roster_grid import Answer, RosterGrid
from primia_flwr.runs.history import LATE, SiteRow
from strategies.aggregators.reply_validator import checked
from strategies.aggregators.statistics_query import site_name


def ask_names(
    grid: RosterGrid,
    messages: dict[int, Message],
    on_name: Callable[[str], None],
    *,
    timeout: float,
    enough: int,
) -> dict[int, SiteRow | None]:
    """Send each node its message, and introduce the names that come back.

    Returns a row for each node that is late or wrong; None for one that gave its name.
    """
    late = f"no answer within {timeout:g} s"
    rows: dict[int, SiteRow | None] = {
        node: SiteRow(0, grid.name_of(node), LATE, late) for node in messages
    }

    def on_answer(answer: Answer) -> None:
        node, reply = answer.node, answer.message
        rows[node] = checked(0, grid.name_of(node), reply, lambda: take(node, reply))

    def take(node: int, reply: Message) -> None:
        name = site_name(reply.content)
        grid.introduce(node, name)
        on_name(name)

    grid.ask(list(messages.values()), timeout=timeout, on_answer=on_answer, enough=enough)
    return rows
