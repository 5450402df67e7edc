"""CrypTen's masks come from our streams, and from nothing else."""

import sys

import pytest
import torch

from primia_flwr.errors import ServiceError
from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.crypten import generators as crypten_generators
from primia_flwr.inference.crypten.door import BinarySharedTensor, crypten
from primia_flwr.inference.crypten.generators import bit_strings, drop_streams, ring_elements

SEEDS = bytes(32), bytes([1] * 32)


@pytest.fixture
def streams():
    crypten_generators.use_streams(0, seeds=SEEDS)
    yield crypten.generators
    drop_streams()


def test_words_and_bits_are_those_of_the_stream():
    drawn = ring_elements((2, 2), generator=Stream(SEEDS[0], "a"))
    words = Stream(SEEDS[0], "a").uint64(4)
    assert drawn.dtype == torch.int64
    assert [word % 2**64 for word in drawn.flatten().tolist()] == words.tolist()
    low = bit_strings(torch.Size([4]), bitlength=3, generator=Stream(SEEDS[0], "a"))
    assert low.tolist() == [int(word) % 8 for word in words]


def test_shares_of_zero_cancel_between_the_parties():
    shares = []
    for party in (0, 1):
        crypten_generators.use_streams(party, seeds=SEEDS)
        shares.append([BinarySharedTensor.PRZS((3,)).share for _ in range(2)])
    drop_streams()
    assert all(torch.equal(*pair) for pair in zip(*shares, strict=True))
    assert not torch.equal(shares[0][0], shares[0][1])  # the stream goes on


def test_no_module_of_crypten_keeps_its_own_function(streams):
    replaced = {"generate_random_ring_element", "generate_kbit_random_tensor"}
    modules = {name: module for name, module in sys.modules.items() if name.startswith("crypten.")}
    found = [
        getattr(module, name).__module__
        for module in modules.values()
        for name in replaced & set(vars(module))
    ]
    assert len(found) >= 5
    assert set(found) == {crypten_generators.__name__}


def test_two_sessions_draw_different_random_bits(streams):
    first = ring_elements((4,))
    crypten_generators.use_streams(0, seeds=SEEDS)
    assert not torch.equal(first, ring_elements((4,)))


def test_a_torch_generator_is_refused(streams):
    with pytest.raises(ServiceError, match="masks from Generator; expected a stream of AES"):
        ring_elements((2,), generator=torch.Generator())


def test_nothing_is_drawn_outside_a_session():
    drop_streams()
    for draw in (ring_elements, bit_strings):
        with pytest.raises(ServiceError, match="masks from NoneType"):
            draw((2,))


def test_another_ring_or_device_is_refused(streams):
    with pytest.raises(ServiceError, match=r"ring_size=4; expected 2\^64"):
        ring_elements((2,), ring_size=4)
    with pytest.raises(ServiceError, match="masks on cuda; expected the CPU"):
        bit_strings((2,), device="cuda")
