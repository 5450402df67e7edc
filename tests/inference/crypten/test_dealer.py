"""The dealer against parties that keep to the protocol, and against those that do not."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.crypten.dealer import serve_dealer
from primia_flwr.inference.crypten.provider import TrustedDealer, asking
from primia_flwr.inference.crypten.requests import MAX_REQUEST_BYTES, Request
from primia_flwr.inference.crypten.wire import CORRECTION, DONE, REQUEST, SEED
from tests.inference.links import linked


class Served:
    """A dealer in a thread, and the parties' ends of its links."""

    def __init__(self, *, timeout: float = 10.0) -> None:
        self.data_owner, near = linked("data-owner", "crypto-provider", timeout=timeout)
        self.model_owner, far = linked("model-owner", "crypto-provider", timeout=timeout)
        self._pool = ThreadPoolExecutor(1)
        self.dealer: Future[int] = self._pool.submit(serve_dealer, near, far)
        self._links = [self.data_owner, self.model_owner, near, far]

    def seeds(self) -> tuple[bytes, bytes]:
        links = self.data_owner, self.model_owner
        first, second = (bytes(link.receive(SEED, at_most=32)) for link in links)
        return first, second

    def end(self) -> None:
        for link in self._links:
            link.close()
        self._pool.shutdown()


@pytest.fixture
def served():
    it = Served()
    yield it
    it.end()


def opened(first, second):
    """The clear values of both parties' shares, which CrypTen's tensors hold."""
    additive = "Arithmetic" in type(first).__name__
    return first.share + second.share if additive else first.share ^ second.share


def test_both_parties_triples_fit_together(served):
    seeds = served.seeds()
    assert seeds[0] != seeds[1]
    party0 = TrustedDealer(seeds[0])
    party1 = TrustedDealer(seeds[1], asking(served.model_owner))

    def deal(name, *arguments, **options):
        shares = [getattr(party, name)(*arguments, **options) for party in (party0, party1)]
        return [opened(*pair) for pair in zip(*shares, strict=True)]

    a, b, c = deal("generate_additive_triple", (2, 3), (3,), "mul", device=torch.device("cpu"))
    assert torch.equal(c, a * b)
    a, b, c = deal("generate_additive_triple", (2, 3), (3, 4), "matmul")
    assert torch.equal(c, a @ b)
    geometry = {"stride": (2, 1), "padding": 1, "dilation": (1, 1), "groups": 2}
    a, b, c = deal("generate_additive_triple", (1, 4, 6, 5), (2, 2, 3, 3), "conv2d", **geometry)
    assert torch.equal(c, torch.conv2d(a, b, **geometry))
    a, c = deal("square", (5,))
    assert torch.equal(c, a * a)
    a, b, c = deal("generate_binary_triple", (7,), (7,))
    assert torch.equal(c, a & b)
    additive, by_xor = deal("B2A_rng", (64,))
    assert torch.equal(additive, by_xor)
    assert set(by_xor.tolist()) == {0, 1}  # but for a chance of 2^-63
    _, wraps = deal("wrap_rng", (64,))
    assert set(wraps.tolist()) <= {-1, 0, 1}
    served.model_owner.send(DONE)
    assert served.dealer.result(10) == 7


def test_the_data_owner_gets_a_seed_and_nothing_else(served):
    seeds = served.seeds()
    TrustedDealer(seeds[1], asking(served.model_owner)).square((3,))
    served.model_owner.send(DONE)
    served.dealer.result(10)
    assert served.data_owner.counts.frames_received == 1
    assert served.model_owner.counts.frames_received == 2


def refused(served, raw):
    """What the model owner and the data owner hear after a request of the model owner."""
    served.seeds()
    served.model_owner.send(REQUEST, raw)
    with pytest.raises(ServiceError) as heard:
        served.model_owner.receive(CORRECTION, at_most=1 << 20)
    with pytest.raises(ServiceError) as other:
        served.data_owner.receive(SEED, at_most=32)
    with pytest.raises(ProtocolError):
        served.dealer.result(10)
    assert str(heard.value) == str(other.value)
    return str(heard.value)


def test_a_number_that_is_not_the_next_is_refused(served):
    raw = Request(1, "square", (2,)).to_bytes()
    assert "request 1 came; expected request 0" in refused(served, raw)


def test_an_unknown_operation_is_refused(served):
    raw = bytearray(Request(0, "square", (2,)).to_bytes())
    raw[8] = 99
    assert "operation 99 of a request" in refused(served, raw)


def test_too_big_a_triple_is_refused(served):
    raw = bytearray(Request(0, "square", (2,)).to_bytes())
    raw[-4:] = np.uint32((1 << 27) + 1).tobytes()
    assert "expected at most 134217728 at a time" in refused(served, raw)


def test_too_long_a_frame_is_refused(served):
    assert f"at most {MAX_REQUEST_BYTES}" in refused(served, bytes(MAX_REQUEST_BYTES + 1))


def test_a_replay_is_refused(served):
    served.seeds()
    raw = Request(0, "square", (2,)).to_bytes()
    served.model_owner.send(REQUEST, raw)
    served.model_owner.receive(CORRECTION, at_most=16)
    served.model_owner.send(REQUEST, raw)
    with pytest.raises(ServiceError, match="request 0 came; expected request 1"):
        served.model_owner.receive(CORRECTION, at_most=16)


def test_when_the_model_owner_goes_the_data_owner_hears_of_it(served):
    served.seeds()
    served.model_owner.close()
    with pytest.raises(ServiceError, match="model-owner"):
        served.data_owner.receive(SEED, at_most=32)
    with pytest.raises(ServiceError, match="model-owner"):
        served.dealer.result(10)


def test_roles_are_those_of_the_certificates():
    held, near = linked("data-owner", "crypto-provider")
    other, far = linked("model-owner", "crypto-provider")
    with held, near, other, far, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve_dealer, far, near)
        for link in (held, other):
            with pytest.raises(ServiceError, match="expected a data-owner"):
                link.receive(SEED, at_most=32)
        with pytest.raises(ServiceError, match="expected a data-owner"):
            served.result(10)


def test_a_correction_of_another_length_is_refused():
    held, dealer = linked("model-owner", "crypto-provider")
    with held, dealer:
        provider = TrustedDealer(bytes(32), asking(held))
        dealer.send(CORRECTION, bytes(8))
        with pytest.raises(ProtocolError, match=r"a correction of 8 bytes .* expected 16"):
            provider.square((2,))
        dealer.send(CORRECTION, bytes(24))
        with pytest.raises(ProtocolError, match="at most 16"):
            provider.square((2,))


def test_operations_outside_the_table_are_refused_at_the_party():
    provider = TrustedDealer(bytes(32))
    with pytest.raises(ProtocolError, match="operation='conv1d'"):
        provider.generate_additive_triple((1, 1, 3), (1, 1, 3), "conv1d")
    with pytest.raises(ServiceError, match="expected the CPU"):
        provider.square((2,), device=torch.device("cuda"))
