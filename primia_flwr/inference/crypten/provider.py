"""A party's side of the trusted dealer: CrypTen's provider interface over seeds and one answer.

Both parties expand their shares from a seed of 32 bytes that the dealer gave each of them. Only
the model owner asks the dealer, once for every triple: for its own share of the product. Both
count the triples, so each is used once.

CrypTen's own default is not used: with it party 0 makes
all triples, knows both parties' shares of them, and can undo everything that party 1 masks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.crypten.door import (
    ArithmeticSharedTensor,
    BinarySharedTensor,
    TupleProvider,
)
from primia_flwr.inference.crypten.requests import PLAIN, Request
from primia_flwr.inference.crypten.wire import CORRECTION, REQUEST
from primia_flwr.inference.transport.channel import Channel

_Ask = Callable[[Request], Callable[[], Tensor]]


class TrustedDealer(TupleProvider):  # type: ignore[misc]
    """Triples of one session of one party.

    Parameters
    ----------
    seed : bytes
        This party's, of the dealer; 32 bytes.
    ask : callable, optional
        Party 1's: sends a request and returns what waits for the answer. Party 0 has none.
    """

    NAME = "trusted_dealer"

    def __init__(self, seed: bytes, ask: _Ask | None = None) -> None:
        super().__init__()
        self._seed = seed
        self._ask = ask
        self._number = 0

    def generate_additive_triple(
        self,
        size0: Sequence[int],
        size1: Sequence[int],
        op: str,
        device: torch.device | None = None,
        **geometry: Any,
    ) -> tuple[Any, Any, Any]:
        """Return additive shares of uniform a and b and of a op b.

        Raises
        ------
        ProtocolError
            If the operation is not in the dealer's table.
        """
        a, b, c = self._draw(op, device, size0, size1, _flat(**geometry) if geometry else PLAIN)
        return _additive(a), _additive(b), _additive(c)

    def square(self, size: Sequence[int], device: torch.device | None = None) -> tuple[Any, Any]:
        """Return additive shares of uniform a and of a * a."""
        a, c = self._draw("square", device, size)
        return _additive(a), _additive(c)

    def generate_binary_triple(
        self, size0: Sequence[int], size1: Sequence[int], device: torch.device | None = None
    ) -> tuple[Any, Any, Any]:
        """Return shares by XOR of uniform a and b and of a & b."""
        a, b, c = self._draw("and", device, size0, size1)
        return _by_xor(a), _by_xor(b), _by_xor(c)

    def wrap_rng(self, size: Sequence[int], device: torch.device | None = None) -> tuple[Any, Any]:
        """Return additive shares of a uniform a, and of how often its shares' sum wraps."""
        a, c = self._draw("wraps", device, size)
        return _additive(a), _additive(c)

    def B2A_rng(  # noqa: N802 - CrypTen's name
        self, size: Sequence[int], device: torch.device | None = None
    ) -> tuple[Any, Any]:
        """Return additive shares and shares by XOR of uniform bits."""
        bit, c = self._draw("bit", device, size)
        return _additive(c), _by_xor(bit)

    def _draw(
        self,
        operation: str,
        device: torch.device | None,
        size0: Sequence[int],
        size1: Sequence[int] = (),
        geometry: tuple[int, ...] = PLAIN,
    ) -> list[Tensor]:
        if device is not None and torch.device(device).type != "cpu":
            raise ServiceError(f"a triple on {device}; expected the CPU")
        request = Request(self._number, operation, tuple(size0), tuple(size1), geometry)
        self._number += 1
        if self._ask is None:
            return [*request.draw(self._seed), request.draw_result(self._seed)]
        answer = self._ask(request)
        return [*request.draw(self._seed), answer()]  # drawn while the dealer computes


def asking(dealer: Channel) -> _Ask:
    """Return how party 1 asks the dealer at the other end of a link."""

    def ask(request: Request) -> Callable[[], Tensor]:
        dealer.send(REQUEST, request.to_bytes())
        return lambda: _receive(dealer, request.result)

    return ask


def _receive(dealer: Channel, shape: tuple[int, ...]) -> Tensor:
    expected = 8 * int(np.prod(shape, dtype=np.int64))
    body = dealer.receive(CORRECTION, at_most=expected)
    if len(body) != expected:
        raise ProtocolError(
            f"a correction of {len(body)} bytes came from the crypto provider; expected "
            f"{expected}; do all parties run the same version of primia_flwr?"
        )
    return torch.from_numpy(np.frombuffer(body, "<i8").astype(np.int64, copy=False)).reshape(shape)


def _flat(stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> tuple[int, ...]:
    pairs = [v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation)]
    return (*pairs[0], *pairs[1], *pairs[2], groups)


def _additive(share: Tensor) -> Any:
    return ArithmeticSharedTensor.from_shares(share, precision=0)


def _by_xor(share: Tensor) -> Any:
    return BinarySharedTensor.from_shares(share, precision=0)
