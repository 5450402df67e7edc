"""What both parties of a session do alike: the shared facts, the line during a batch, the sizes."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch

from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.preprocessing.store import default_folder
from primia_flwr.inference.protocol.online import Buffer
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.messages import Kind

PROTOCOL = "fss"


@dataclass(frozen=True)
class Settings:
    """A party's own choices.

    `prefetch`: blocks that wait at most. `store`: where; `store_bytes`: their limit on disk.
    `timeout`: seconds of silence in the midst of a message after which a line counts as dead.
    `patience`: seconds for which a block is waited for, and by a model owner the next batch of a
    call. `idle`: the same for a data owner that watches. `threads`: for the comparisons.
    `protocol`: what a model owner offers. `device`: of the data owner's products; a model has its
    own. `audit`: a data owner asks for it, a model owner takes part. `max_memory`: GB that a data
    owner's session may take; 0: what the machine has left.
    """

    prefetch: int = 4
    store: Path = field(default_factory=default_folder)
    store_bytes: int = 20 << 30
    timeout: float = 60.0
    patience: float = 900.0
    idle: float = 72 * 3600.0
    threads: int = 1
    protocol: str = PROTOCOL
    device: torch.device = ring.CPU
    audit: bool = False
    max_memory: float = 0.0


def blocks_ahead(settings: Settings, num_bytes: int) -> int:
    """Return how many blocks of that size may wait: at least one."""
    return max(1, min(settings.prefetch, settings.store_bytes // num_bytes))


@dataclass(frozen=True)
class Online:
    """The line between the two parties during a batch."""

    channel: Channel

    def send(self, *parts: Buffer) -> None:
        """Send one frame."""
        self.channel.send(Kind.ONLINE, *parts)

    def receive(self, at_most: int) -> Buffer:
        """Return the peer's next frame."""
        return self.channel.receive(Kind.ONLINE, at_most=at_most)

    def exchange(self, part: Buffer, at_most: int) -> Buffer:
        """Send a frame and return the peer's, at the same time."""
        return self.channel.exchange(Kind.ONLINE, part, at_most=at_most)


class ClosedAtTheEnd:
    """A data owner's session as a context manager.

    What it holds is in `_resources`, from the moment at which it is open.
    """

    _resources: ExitStack
    _abandoned = False

    def maintain(self) -> None:
        """See to the session while there is nothing to classify, where it needs that."""

    def abandon(self) -> None:
        """End the session after an error, without a goodbye."""
        self._abandoned = True
        self.close()

    def close(self) -> None:
        """End the session; what waits of its randomness is burned."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if error is None and not self._abandoned:
            self._say_goodbye()
        self.close()

    def _say_goodbye(self) -> None:
        """Tell the peer that all is done, where it waits for that."""
