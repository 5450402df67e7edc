"""The dealer's side of `protocol=crypten`: a seed to each party, corrections to the model owner.

The dealer knows all triples, and sees neither images nor weights nor anything that is masked: the
parties talk past it. What it computes is one of a closed table and bounded in size, and each
request must bear the next number.
"""

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic.randomness import fresh_seed
from primia_flwr.inference.crypten.links import expect_role, tell_on_failure
from primia_flwr.inference.crypten.requests import MAX_REQUEST_BYTES, Request
from primia_flwr.inference.crypten.wire import CORRECTION, DONE, REQUEST, SEED
from primia_flwr.inference.transport.channel import Channel


def serve_dealer(data_owner: Channel, model_owner: Channel) -> int:
    """Serve one computation; return how many triples were dealt.

    Parameters
    ----------
    data_owner, model_owner : Channel
        Both parties must have shown these roles; the data owner gets its seed and nothing else.

    Raises
    ------
    ServiceError
        If a party has another role, goes away, or is silent beyond the link's timeout.
    ProtocolError
        If a request is malformed, too big, or not the next one. All parties are told why.
    """
    with tell_on_failure(model_owner, data_owner):  # the one that waits for an answer first
        expect_role(data_owner, "data-owner")
        expect_role(model_owner, "model-owner")
        seeds = fresh_seed(), fresh_seed()
        data_owner.send(SEED, seeds[0])
        model_owner.send(SEED, seeds[1])
        dealt = 0
        while True:
            kind, body = model_owner.receive_any({REQUEST: MAX_REQUEST_BYTES, DONE: 0})
            if kind == DONE:
                return dealt
            model_owner.send(CORRECTION, answer(bytes(body), dealt, seeds))
            dealt += 1


def answer(raw: bytes, number: int, seeds: tuple[bytes, bytes]) -> bytes:
    """Return the model owner's share of a product: 8 bytes an entry, little-endian.

    `raw`: the request, which must bear `number`. `seeds`: the data owner's and the model owner's.

    Raises
    ------
    ProtocolError
        If the request is malformed, too big, or bears another number.
    """
    request = Request.from_bytes(raw)
    if request.number != number:
        raise ProtocolError(
            f"request {request.number} came; expected request {number}: each triple is dealt once"
        )
    return request.correction(seeds).numpy().astype("<i8", copy=False).tobytes()
