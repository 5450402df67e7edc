"""CrypTen made ready for one computation of this process, and taken down after it.

This stands in for `crypten.init`, which takes the other party's address from the environment,
trusts whoever answers there, and draws 64-bit seeds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic.randomness import SEED_BYTES, fresh_seed
from primia_flwr.inference.crypten.communicator import ChannelCommunicator
from primia_flwr.inference.crypten.door import crypten
from primia_flwr.inference.crypten.generators import drop_streams, use_streams
from primia_flwr.inference.crypten.wire import HELLO
from primia_flwr.inference.transport.channel import Channel

PRECISION_BITS = 16  # CrypTen's own
_DIGEST_BYTES = 32
_PROVIDERS: dict[str, Any] = vars(crypten.mpc)["__SUPPORTED_PROVIDERS"]
_NAME = "primia_flwr"


@contextmanager
def session(
    party: int,
    other: Channel,
    provider: Any,
    *,
    agreement: bytes,
    precision_bits: int = PRECISION_BITS,
) -> Iterator[ChannelCommunicator]:
    """Agree with the other party, and make CrypTen compute with it.

    Parameters
    ----------
    party : int
        0 (data owner) or 1 (model owner).
    other : Channel
        To the other party.
    provider : TupleProvider
        Of the triples.
    agreement : bytes
        SHA-256 of all that both parties must have alike, 32 bytes.
    precision_bits : int
        Fractional bits of fixed point, 1 to 24.

    Raises
    ------
    ServiceError
        If this process is in a session already, or the other party cannot be heard.
    ProtocolError
        If the other party agrees to something else.
    """
    check_range("precision_bits", precision_bits, 1, 24, example=PRECISION_BITS)
    communicator = ChannelCommunicator(other, party)
    communicator.take_seat()
    settings = {"encoder.precision_bits": precision_bits, "mpc.provider": _NAME}
    try:
        use_streams(party, seeds=_shake_hands(party, other, agreement))
        _PROVIDERS[_NAME] = provider
        with crypten.cfg.temp_override(settings), crypten.no_grad():
            yield communicator
    finally:
        drop_streams()
        _PROVIDERS.pop(_NAME, None)
        ChannelCommunicator.shutdown()


def _shake_hands(party: int, other: Channel, agreement: bytes) -> tuple[bytes, bytes]:
    """Return the seeds of party 0 and party 1 for shares of zero."""
    own = fresh_seed()
    body = other.exchange(HELLO, agreement, own, at_most=_DIGEST_BYTES + SEED_BYTES)
    if len(body) != _DIGEST_BYTES + SEED_BYTES or bytes(body[:_DIGEST_BYTES]) != agreement:
        raise ProtocolError(
            f"{other.peer} has another computation in mind; expected the same architecture, "
            "number of images, image size and precision; compare both parties' model cards"
        )
    theirs = bytes(body[_DIGEST_BYTES:])
    return (own, theirs) if party == 0 else (theirs, own)
