"""Sites in memory that take their time, by a clock that only waiting moves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from primia_bench.topologies.asynchronous import Clock

from tests.strategies.conftest import FakeGrid


class SlowGrid(FakeGrid):
    """A grid whose sites answer one message after the other.

    `takes`: seconds of a site's training, by node; without an entry none. `trained`: node, round
    and time of each training that has been begun.
    """

    def __init__(self, sites: dict[int, Any], clock: Clock, takes: dict[int, float]) -> None:
        super().__init__(sites)
        self.clock, self.takes = clock, takes
        self.trained: list[tuple[int, int, float]] = []
        self._due: dict[str, float] = {}
        self._free = dict.fromkeys(sites, 0.0)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids: list[str] = []
        for message in messages:
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            begins = max(self._free[node], self.clock.seconds)
            ids += super().push_messages([message])
            if kind == "train":
                self._free[node] = begins + self.takes.get(node, 0.0)
                self.trained.append((node, message.content["config"]["server-round"], begins))
            self._due[message.metadata.message_id] = self._free[node]
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return super().pull_messages(
            [one for one in message_ids if self._due[one] <= self.clock.seconds + 1e-9]
        )
