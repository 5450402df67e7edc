"""CrypTen's collectives between two threads, each with one end of a link."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.distributed import ReduceOp

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.crypten.communicator import ChannelCommunicator
from primia_flwr.inference.crypten.door import crypten
from primia_flwr.inference.crypten.wire import TENSORS, pack, packed_bytes
from tests.inference.links import linked


@pytest.fixture
def pair():
    near, far = linked("data-owner", "model-owner")
    with near, far:
        yield ChannelCommunicator(near, 0), ChannelCommunicator(far, 1)


def both(pair, call):
    with ThreadPoolExecutor(2) as pool:
        return [done.result(20) for done in [pool.submit(call, party) for party in pair]]


def own(party, *extra):
    """Party 0 has [5, 6], party 1 has [3, -1]."""
    return torch.tensor([[5, 6], [3, -1]][party.get_rank()])


def lists(results):
    return [[t if t is None else t.tolist() for t in result] for result in results]


def test_sums_and_exclusive_ors(pair):
    assert lists([both(pair, lambda p: p.all_reduce(own(p)))]) == [[[8, 5], [8, 5]]]
    xor = both(pair, lambda p: p.all_reduce(own(p), op=ReduceOp.BXOR))
    assert lists([xor]) == [[[6, -7], [6, -7]]]  # 5 ^ 3, 6 ^ -1
    batch = both(pair, lambda p: p.all_reduce([own(p), own(p)[:1]], batched=True))
    assert lists(batch) == [[[8, 5], [8]]] * 2


def test_sums_wrap(pair):
    largest = torch.tensor([2**63 - 1])
    assert both(pair, lambda p: p.all_reduce(largest))[0].tolist() == [-2]


def test_what_is_reduced_to_one_party_is_sent_one_way(pair):
    reduced = both(pair, lambda p: p.reduce(own(p), 0))
    assert reduced[0].tolist() == [8, 5]
    assert reduced[1] is None
    batch = both(pair, lambda p: p.reduce([own(p)], 1, batched=True))
    assert batch[0] is None
    assert lists([batch[1]]) == [[[8, 5]]]
    assert [p.comm_bytes for p in pair] == [packed_bytes([(2,)])] * 2


def test_gathering_and_scattering(pair):
    assert lists(both(pair, lambda p: p.all_gather(own(p)))) == [[[5, 6], [3, -1]]] * 2
    assert lists(both(pair, lambda p: p.gather(own(p), 1))) == [[None], [[5, 6], [3, -1]]]
    parts = [torch.tensor([1]), torch.tensor([2])]
    assert lists([both(pair, lambda p: p.scatter(parts, 0))]) == [[[1], [2]]]
    assert lists([both(pair, lambda p: p.scatter(parts, 1, size=(1,)))]) == [[[1], [2]]]


def test_broadcast_changes_the_others_tensor_in_place(pair):
    tensors = [own(p) for p in pair]
    both(pair, lambda p: p.broadcast(tensors[p.get_rank()], 1))
    assert lists([tensors]) == [[[3, -1], [3, -1]]]
    both(pair, lambda p: p.broadcast([tensors[p.get_rank()]], 0, batched=True))
    assert lists([tensors]) == [[[3, -1], [3, -1]]]


def test_one_to_the_other(pair):
    def call(p):
        return p.send(own(p), 1) if p.get_rank() == 0 else p.recv(torch.zeros(2), 0)

    assert both(pair, call)[1].tolist() == [5, 6]


def test_a_barrier_is_one_round_without_bytes(pair):
    both(pair, lambda p: p.barrier())
    assert [p.get_communication_stats()["rounds"] for p in pair] == [1, 1]
    assert [p.comm_bytes for p in pair] == [0, 0]


@pytest.mark.parametrize("name", ["send_obj", "recv_obj", "broadcast_obj"])
def test_objects_are_never_sent(pair, name):
    with pytest.raises(ServiceError, match="expected tensors of known shapes only"):
        getattr(pair[0], name)({"a": 1}, 1)


@pytest.mark.parametrize("rank", [2, -1, None])
def test_there_is_no_third_party(pair, rank):
    with pytest.raises(ServiceError, match="expected party 0 or 1"):
        pair[0].reduce(torch.tensor([1]), rank)


def test_nobody_sends_to_itself(pair):
    with pytest.raises(ServiceError, match="dst=0 is this party itself; expected 1"):
        pair[0].send(torch.tensor([1]), 0)
    with pytest.raises(ServiceError, match="src=1 is this party itself; expected 0"):
        pair[1].recv(torch.tensor([1]), 1)


def test_a_longer_message_than_expected_is_refused(pair):
    pair[0].send(torch.zeros(3, dtype=torch.int64), 1)
    with pytest.raises(ProtocolError, match="at most"):
        pair[1].recv(torch.zeros(2), 0)


def test_another_shape_of_the_same_length_is_refused(pair):
    pair[0].send(torch.zeros(2, 3, dtype=torch.int64), 1)
    with pytest.raises(ProtocolError, match="do not hold int64 tensors"):
        pair[1].recv(torch.zeros(3, 2), 0)


def test_another_type_code_is_refused(pair):
    header, entries = pack([torch.zeros(1, dtype=torch.int64)])
    header[0] = 2
    pair[0]._channel.send(TENSORS, header, entries)
    with pytest.raises(ProtocolError, match="do not hold int64 tensors"):
        pair[1].recv(torch.zeros(1), 0)


def test_crypten_finds_the_communicator_in_its_seat(pair):
    pair[0].take_seat()
    try:
        assert crypten.communicator.is_initialized()
        assert crypten.communicator.get() is pair[0]
        with pytest.raises(ServiceError, match="a party of an encrypted computation already"):
            pair[1].take_seat()
        with pytest.raises(ServiceError, match="CrypTen's own start"):
            ChannelCommunicator.initialize(0, 2)
    finally:
        ChannelCommunicator.shutdown()
    with pytest.raises(RuntimeError):
        crypten.communicator.get()


def test_who_is_who(pair):
    assert [(p.get_world_size(), p.get_rank(), p.get_name()) for p in pair] == [
        (2, 0, "party 0"),
        (2, 1, "party 1"),
    ]
    pair[0].set_name("clinic")
    assert pair[0].get_name() == "clinic"
