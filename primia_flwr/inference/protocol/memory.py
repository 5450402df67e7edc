"""How much memory a session takes at each party, known from its plan before any of it is taken.

All of it but the weights grows in proportion to the batch. The bounds are what is held at the same
time at the worst moment; `python -m primia_bench.inference.memory` compares them with processes.
"""

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from primia_flwr.errors import ConfigError, PolicyRefusal
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.plan import Plan
from primia_flwr.inference.preprocessing.dealing import open_bytes, part_bytes, stored_bytes
from primia_flwr.processes.room import available_bytes

_WORD_BYTES = 8
GB = 10**9
_FIRST_BYTES = 300 * 10**6  # of libraries and threads, that only a session brings in
_BLOCKS = 2  # in use or open, and being opened
_WITH_COPIES = 4  # the largest part of a block: as it comes, sealed or unsealed, and being used
_KEPT_FREE = 0.1  # of what the machine has: for everything else


@dataclass(frozen=True)
class SessionMemory:
    """Bytes of a session: `fixed`, and `each` for every image of a batch."""

    fixed: int
    each: int

    @classmethod
    def of(cls, party: int, plan: Plan) -> Self:
        """Return that of a data owner or a model owner."""
        spec, batch = CorrelationSpec.of(plan), plan.input_shape[0]
        values = sum(math.prod(step.shape) for step in plan.steps)
        held = max(stored_bytes(party, spec), open_bytes(spec))
        block = _BLOCKS * held + _WITH_COPIES * max(part_bytes(party, spec))
        masks = _entries(spec) if party == ring.DATA_OWNER else 0
        each = block + _WORD_BYTES * (2 * values + 2 * masks)
        return cls(_WORD_BYTES * 2 * _weights(spec) + _FIRST_BYTES, -(-each // batch))

    def of_batch(self, batch: int) -> int:
        """Return the bytes of a session with batches of so many images."""
        return self.fixed + batch * self.each

    def largest_batch(self, room: int) -> int:
        """Return the largest batch that fits, 0 if none does."""
        return max(0, (room - self.fixed) // self.each)


def dealing_bytes(spec: CorrelationSpec) -> int:
    """Return the bytes of a session at the crypto provider: masks, and the largest part dealt."""
    largest = max(part_bytes(ring.MODEL_OWNER, spec))
    words = _WORD_BYTES * (2 * _weights(spec) + 2 * _entries(spec))
    return words + 2 * _WITH_COPIES * largest + _FIRST_BYTES


def room_for(max_memory: float, *, available: int | None = None) -> int:
    """Return the bytes that sessions may take: `max_memory` in GB, or 0 for what there is.

    Raises
    ------
    ConfigError
        If this machine does not have that much.
    """
    has = available_bytes() if available is None else available
    if not max_memory:
        return int(has * (1 - _KEPT_FREE))
    if max_memory * GB > has:
        raise ConfigError(
            f"max_memory={max_memory:g}; this machine has {has / GB:.1f} GB left; expected less, "
            "or 0 for what there is"
        )
    return int(max_memory * GB)


def batch_that_fits(memory: SessionMemory, *, sessions: int, max_batch: int, room: int) -> int:
    """Return how many images a data owner may send at once; 0 stands for up to 16 that fit.

    Raises
    ------
    ConfigError
        If `sessions` of them would not fit.
    """
    largest = memory.largest_batch(room // sessions)
    if 1 <= max_batch <= largest:
        return max_batch
    if not max_batch and largest:
        return min(largest, 16)
    batch = max(max_batch, 1)
    needed = sessions * memory.of_batch(batch)
    raise ConfigError(
        f"max_sessions={sessions} with max_batch={batch} takes up to {needed / GB:.1f} GB of "
        f"memory for this model; expected at most {room / GB:.1f} GB (max_memory, or what the "
        f"machine has left); {_remedy(memory, largest, batch, room)}"
    )


def _remedy(memory: SessionMemory, largest: int, batch: int, room: int) -> str:
    fitting = {size: room // memory.of_batch(size) for size in (1, batch)}
    ways = [f"max_batch={largest}"] * (largest > 0)
    ways += [f"max_batch={size} max_sessions={count}" for size, count in fitting.items() if count]
    return f"e.g. {' or '.join(ways)}" if ways else "it does not hold one session with 1 image"


def check_session(memory: SessionMemory, *, batch: int, room: int) -> None:
    """Refuse a session that does not fit, before anything of it is taken.

    Raises
    ------
    ConfigError
        If it does not.
    """
    needed = memory.of_batch(batch)
    if needed > room:
        fits = memory.largest_batch(room)
        raise ConfigError(
            f"batch={batch} takes up to {needed / GB:.1f} GB of memory for the offered model; "
            f"expected at most {room / GB:.1f} GB (max_memory, or what this machine has left); "
            + (f"lower it to batch={fits}" if fits else "not even batch=1 fits")
        )


class Budget:
    """Bytes that sessions take together, each before it begins.

    Parameters
    ----------
    room : int or None
        In bytes; None: without a bound.
    """

    def __init__(self, room: int | None) -> None:
        self._room, self._taken = room, 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def reserve(self, num_bytes: int) -> Iterator[None]:
        """Take so many bytes while the context lasts.

        Raises
        ------
        PolicyRefusal
            If they are not left.
        """
        self._take(num_bytes)
        try:
            yield
        finally:
            with self._lock:
                self._taken -= num_bytes

    def _take(self, num_bytes: int) -> None:
        with self._lock:
            if self._room is not None and self._taken + num_bytes > self._room:
                left = max(self._room - self._taken, 0)
                raise PolicyRefusal(
                    f"this session takes up to {num_bytes / GB:.1f} GB of memory here, and "
                    f"{left / GB:.1f} of {self._room / GB:.1f} GB are left; ask with a smaller "
                    "batch, or later"
                )
            self._taken += num_bytes


def _weights(spec: CorrelationSpec) -> int:
    return sum(math.prod(product.weight_shape) for product in spec.products)


def _entries(spec: CorrelationSpec) -> int:
    return sum(math.prod(shape) for shape in spec.openings)
