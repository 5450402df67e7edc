"""A Flower grid that shows and asks only the sites of the experiment, and knows their names."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.run import Run

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.packing import pack_contents, unpack_content
from primia_flwr.processes.pace import hasten_transfers

logger = logging.getLogger(__name__)

# A message lives this much longer than the round waits for its answer: room for clocks that
# differ. A site that comes back later is not given work that nobody waits for any more.
_CLOCK_TOLERANCE = 600.0
_SHORTEST_PAUSE, _LONGEST_PAUSE, _PART_OF_THE_WAIT = 0.1, 1.0, 10
_PUSHES = 5
_OTHERS, _OTHERS_TIMES = 30.0, 3.0


@dataclass(frozen=True)
class Answer:
    """A reply, the node it came from, and when it arrived (`time.monotonic` seconds)."""

    node: int
    message: Message
    arrived: float


class RosterGrid(Grid):
    """Wraps Flower's grid; strategies see the nodes that the round has selected.

    Parameters
    ----------
    grid : Grid
        Flower's own.
    sites : sequence of str
        The names on the experiment's roster.
    nodes : mapping of str to int, optional
        Which node is which site. Without it (simulation) any node may introduce itself.

    Attributes
    ----------
    unsent : set of int
        Nodes to which the last `ask` could not send.
    """

    def __init__(
        self, grid: Grid, sites: Sequence[str], nodes: Mapping[str, int] | None = None
    ) -> None:
        hasten_transfers()
        self._grid = grid
        self._sites = frozenset(sites)
        self._roster = {node: site for site, node in (nodes or {}).items() if site in self._sites}
        self._closed = bool(nodes)
        self._names: dict[int, str] = {}
        self._silent: set[int] = set()
        self._selected: list[int] = []
        self.unsent: set[int] = set()

    def online(self) -> list[int]:
        """Return the nodes that are online and may belong to the roster, sorted."""
        return sorted(
            node for node in self._grid.get_node_ids() if not self._closed or node in self._roster
        )

    def introduce(self, node: int, name: str) -> None:
        """Take in a node under a site's name.

        Raises
        ------
        ProtocolError
            If the roster does not have the name, has it for another node, or another node that
            still answers has it.
        """
        self._check_listed(node, name)
        for other in [known for known, site in self._names.items() if site == name]:
            if other == node:
                continue
            if other in self.online() and other not in self._silent:
                raise ProtocolError(
                    f"answers as {name!r}, as another node does; expected one node for each name"
                )
            del self._names[other]
        self._names[node] = name

    def _check_listed(self, node: int, name: str) -> None:
        if name not in self._sites:
            raise ProtocolError(
                f"site name {name!r}; expected one of federation.sites "
                f"({', '.join(sorted(self._sites))})"
            )
        if self._closed and self._roster.get(node) != name:
            raise ProtocolError(
                f"answers as {name!r}; expected {self._roster.get(node)!r}, whose key it holds"
            )

    def select(self) -> list[str]:
        """Fix the nodes that are asked from now on: those online with a name. Returns names."""
        named = sorted((self._names[node], node) for node in self.online() if node in self._names)
        self._selected = [node for _, node in named]
        return [name for name, _ in named]

    def name_of(self, node: int) -> str:
        """Return the site's name, or `node <id>` for one that has not introduced itself."""
        return self._names.get(node) or self._roster.get(node) or f"node {node}"

    def ask(
        self,
        messages: Iterable[Message],
        *,
        timeout: float,
        on_answer: Callable[[Answer], None] | None = None,
        enough: int = 0,
    ) -> list[Answer]:
        """Send messages and collect the replies as they come, for at most `timeout` seconds.

        With `enough` it does not wait for all: after so many good replies the others get
        30 seconds more, or three times what these have taken.

        Flower's own `send_and_receive` looks every three seconds; this one looks often at
        first and every second later.
        """
        pending = self.send(list(messages), timeout=timeout)
        asked, started = set(pending.values()), self.now()
        answers: list[Answer] = []
        while pending:
            for answer in self.look(pending):
                answers.append(answer)
                if on_answer:
                    on_answer(answer)
            elapsed = self.now() - started
            if enough and sum(answer.message.has_content() for answer in answers) >= enough:
                timeout = min(timeout, max(elapsed + _OTHERS, _OTHERS_TIMES * elapsed))
                enough = 0
            if not pending or elapsed >= timeout:
                break
            self.pause(elapsed, timeout - elapsed)
        heard = {answer.node for answer in answers if answer.message.has_content()}
        self._silent = (self._silent | asked) - heard
        return answers

    def look(self, pending: dict[str, int]) -> Iterator[Answer]:
        """Yield the replies that are there, and take them out of `pending`, which `send` returned.

        A reply to anything else is none.
        """
        for message in self._grid.pull_messages(list(pending)):
            node = pending.pop(message.metadata.reply_to_message_id, None)
            if node is None:
                continue
            with suppress(ProtocolError):  # stays packed, and fits no model
                unpack_content(message)
            yield Answer(node, message, self.now())

    def missed(self, node: int) -> None:
        """Take note that a node has not answered in time: another may take over its name."""
        self._silent.add(node)

    def now(self) -> float:
        """Return the seconds of the clock by which replies arrive."""
        return time.monotonic()

    def pause(self, elapsed: float, left: float) -> None:
        """Wait between two looks: longer the longer it has taken, and no longer than is `left`."""
        pause = min(max(elapsed / _PART_OF_THE_WAIT, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        time.sleep(max(min(pause, left), 0.0))

    def send(self, messages: list[Message], *, timeout: float) -> dict[str, int]:
        """Send; return the node that each accepted message went to, by message id."""
        pack_contents(messages)
        for message in messages:
            message.metadata.ttl = timeout + _CLOCK_TOLERANCE
        accepted = self._hand_over(messages) if messages else set()
        sent = {message.metadata.message_id: message.metadata.dst_node_id for message in messages}
        self.unsent = {sent[message_id] for message_id in sent.keys() - accepted}
        for node in self.unsent:
            logger.warning("no message could be handed to %s", self.name_of(node))
        return {message_id: node for message_id, node in sent.items() if message_id in accepted}

    def _hand_over(self, messages: list[Message]) -> set[str]:
        """Push, again where the SuperLink was lost in the middle: the same message counts once."""
        for _ in range(_PUSHES - 1):
            try:
                return set(self._grid.push_messages(messages))
            except ObjectPushError as error:
                logger.warning("sending again, since the SuperLink was lost: %s", error)
                time.sleep(_LONGEST_PAUSE)
        return set(self._grid.push_messages(messages))

    # --- Flower's interface ---------------------------------------------------------------

    def set_run(self, run: Run) -> None:
        """Set the run of the wrapped grid."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run of the wrapped grid."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message; Flower prefers `Message(...)` today."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the selected nodes, in the order of their sites' names."""
        return list(self._selected)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push through the wrapped grid."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull through the wrapped grid."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and return the replies that came within `timeout` seconds."""
        patience = float("inf") if timeout is None else timeout
        return [answer.message for answer in self.ask(messages, timeout=patience)]
