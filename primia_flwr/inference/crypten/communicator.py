"""CrypTen's collectives between two parties, over one mutually authenticated link.

What both parties send at once crosses on the way: one exchange takes one one-way delay. The
receiver knows every shape beforehand; Python objects are not sent at all.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.distributed import ReduceOp

from primia_flwr.errors import ServiceError
from primia_flwr.inference.crypten.door import Communicator, crypten
from primia_flwr.inference.crypten.wire import TENSORS, pack, packed_bytes, unpack
from primia_flwr.inference.transport.channel import Channel

_COMBINE: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
    ReduceOp.SUM: torch.add,
    ReduceOp.BXOR: torch.bitwise_xor,
}


class ChannelCommunicator(Communicator):  # type: ignore[misc]
    """The communicator of one of two parties; CrypTen finds it after `take_seat`.

    `comm_rounds`: exchanges and one-way messages; `comm_bytes`: bytes of tensors and their
    headers that this party sent; `comm_time`: seconds spent sending and waiting.

    Parameters
    ----------
    channel : Channel
        To the other party.
    rank : int
        0 or 1.
    """

    BYTES_PER_ELEMENT = 8
    _seated: "ChannelCommunicator | None" = None

    def __init__(self, channel: Channel, rank: int) -> None:
        self._channel = channel
        self._rank = rank
        self._name = f"party {rank}"
        self.reset_communication_stats()

    def take_seat(self) -> None:
        """Become what `crypten.communicator.get()` returns.

        Raises
        ------
        ServiceError
            If this process is a party already.
        """
        if ChannelCommunicator._seated is not None:
            raise ServiceError(
                "this process is a party of an encrypted computation already; expected one at a "
                "time; start another process"
            )
        crypten.communicator.DistributedCommunicator = ChannelCommunicator
        ChannelCommunicator._seated = self

    @classmethod
    def shutdown(cls) -> None:
        """Leave the seat; the link stays open."""
        ChannelCommunicator._seated = None

    @classmethod
    def is_initialized(cls) -> bool:
        """Return whether a communicator is seated."""
        return ChannelCommunicator._seated is not None

    @classmethod
    def get(cls) -> "ChannelCommunicator | None":
        """Return the seated communicator."""
        return ChannelCommunicator._seated

    @classmethod
    def initialize(cls, *_: object, **__: object) -> NoReturn:
        """Refuse: a communicator needs its link."""
        raise ServiceError(
            "CrypTen's own start has no link; use a session of primia_flwr.inference"
        )

    def get_world_size(self) -> int:
        """Return 2."""
        return 2

    def get_rank(self) -> int:
        """Return 0 or 1."""
        return self._rank

    def get_name(self) -> str:
        """Return the party's name."""
        return self._name

    def set_name(self, name: str) -> None:
        """Set the party's name."""
        self._name = name

    # --- tensors --------------------------------------------------------------------------

    def send(self, tensor: Tensor, dst: int) -> None:
        """Send a tensor to the other party."""
        self._check_other("dst", dst)
        self._send([tensor])

    def recv(self, tensor: Tensor, src: int | None = None) -> Tensor:
        """Return a tensor of the other party, of the shape of `tensor`."""
        if src is not None:
            self._check_other("src", src)
        return self._receive([tensor.shape])[0]

    def all_reduce(self, input: Any, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        """Return the sum or XOR of both parties' tensors; of a list, each entry's."""
        own = list(input) if batched else [input]
        combine = _COMBINE[op]
        result = [combine(*pair) for pair in zip(own, self._exchange(own), strict=True)]
        return result if batched else result[0]

    def reduce(self, input: Any, dst: int, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        """Return the sum or XOR of both parties' tensors at `dst`; None at the other party."""
        own = list(input) if batched else [input]
        if not self._is_self("dst", dst):
            return self._send(own)
        theirs = self._receive([tensor.shape for tensor in own])
        result = [_COMBINE[op](*pair) for pair in zip(own, theirs, strict=True)]
        return result if batched else result[0]

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return both parties' tensors, which have one shape, by rank."""
        return self._by_rank(tensor.clone(), self._exchange([tensor])[0])

    def gather(self, tensor: Tensor, dst: int) -> list[Tensor] | list[None]:
        """Return both parties' tensors, by rank, at `dst`; [None] at the other party."""
        if self._is_self("dst", dst):
            return self._by_rank(tensor.clone(), self._receive([tensor.shape])[0])
        self._send([tensor])
        return [None]

    def scatter(
        self,
        scatter_list: Sequence[Tensor],
        src: int,
        size: Sequence[int] | None = None,
        device: Any = None,
    ) -> Tensor:
        """Return this party's entry of the list that `src` has; others say the size by theirs."""
        if self._is_self("src", src):
            self._send([scatter_list[1 - self._rank]])
            return scatter_list[self._rank]
        return self._receive([scatter_list[self._rank].shape if size is None else size])[0]

    def broadcast(self, input: Any, src: int, group: Any = None, batched: bool = False) -> Any:
        """Return `input`, which at the other party takes on the values that `src` has."""
        own = list(input) if batched else [input]
        if self._is_self("src", src):
            self._send(own)
            return input
        for tensor, theirs in zip(own, self._receive([t.shape for t in own]), strict=True):
            tensor.copy_(theirs)
        return input

    def barrier(self) -> None:
        """Wait for the other party."""
        self._exchange([])

    def send_obj(self, *_: object, **__: object) -> NoReturn:
        """Refuse: an object would travel as a pickle, which runs code where it is read."""
        raise ServiceError("a Python object was to be sent; expected tensors of known shapes only")

    recv_obj = send_obj
    broadcast_obj = send_obj

    # --- frames ---------------------------------------------------------------------------

    def _exchange(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        shapes = [tensor.shape for tensor in tensors]
        length, start = packed_bytes(shapes), time.perf_counter()
        body = self._channel.exchange(TENSORS, *pack(tensors), at_most=length)
        self._count(length, start)
        return unpack(body, shapes)

    def _send(self, tensors: Sequence[Tensor]) -> None:
        start = time.perf_counter()
        self._channel.send(TENSORS, *pack(tensors))
        self._count(packed_bytes([tensor.shape for tensor in tensors]), start)

    def _receive(self, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        start = time.perf_counter()
        body = self._channel.receive(TENSORS, at_most=packed_bytes(shapes))
        self._count(0, start)
        return unpack(body, shapes)

    def _count(self, sent: int, start: float) -> None:
        self.comm_rounds += 1
        self.comm_bytes += sent
        self.comm_time += time.perf_counter() - start

    def _by_rank(self, own: Tensor, theirs: Tensor) -> list[Tensor]:
        return [own, theirs] if self._rank == 0 else [theirs, own]

    def _is_self(self, field: str, rank: int) -> bool:
        if rank not in (0, 1):
            raise ServiceError(f"{field}={rank} of a collective; expected party 0 or 1")
        return rank == self._rank

    def _check_other(self, field: str, rank: int) -> None:
        if self._is_self(field, rank):
            raise ServiceError(f"{field}={rank} is this party itself; expected {1 - rank}")
