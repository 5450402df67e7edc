"""Audited batches over a link in memory: what leaves its ring is seen wherever it does."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.overflow import check as audit
from primia_flwr.inference.plan import Linear
from primia_flwr.inference.preprocessing import dealing
from primia_flwr.inference.protocol.online import DataOwner, ModelOwner
from tests.inference import memory_link
from tests.inference.memory_link import classify, deal, linked
from tests.inference.protocol.test_online import Identity, chi_square, frames_of, small_model

UNIT = 2.0**-ring.ACTIVATION_BITS


def audited(lowered: Lowered, *bits: int) -> Lowered:
    plan = replace(lowered.plan, audit=True)
    return replace(lowered, plan=replace(plan, compare_bits=bits or plan.compare_bits))


def network(size: int = 16, batch: int = 1, compare_bits: int = 32) -> Lowered:
    return lower(small_model("simpleconv"), (batch, 1, size, size), compare_bits=compare_bits)


def picture(size: int = 16, batch: int = 1) -> Tensor:
    return torch.randn(batch, 1, size, size, generator=torch.Generator().manual_seed(3))


def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deal the same block again and again, so that scores can be compared to the last bit."""
    counter = itertools.count()
    monkeypatch.setattr(dealing, "fresh_seed", lambda: next(counter).to_bytes(32, "big"))
    monkeypatch.setattr(memory_link, "fresh_seed", lambda: bytes([7]) * 32)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_clean_batch_has_the_very_scores_that_it_has_without_audit(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    lowered = network(batch=batch)
    found = []
    for one in (lowered, audited(lowered)):
        with monkeypatch.context() as patch:
            seeded(patch)
            found.append(classify(one, picture(batch=batch))[0])
    assert torch.equal(*found)


def test_bytes_on_the_line_by_hand() -> None:
    # As without audit, a hash of 32 bytes up and a tag of 16 bytes down; not a frame more.
    net = nn.Sequential(Identity(4), nn.ReLU(), Identity(4))
    _, mine, theirs = classify(audited(lower(net, (1, 4))), torch.zeros(1, 4))
    assert mine.num_sent == 32 + 32 + 5 + 32 + 32
    assert theirs.num_sent == 32 + 5 + 32 + 16
    assert (len(mine.received), len(theirs.received)) == (3, 3)


@pytest.mark.parametrize("step", range(12))
def test_a_number_outside_is_seen_at_every_comparison_step(step: int) -> None:
    lowered = network()
    assert len(lowered.plan.comparisons) == 12
    bits = [32] * 12
    assert classify(audited(lowered, *bits), picture())[0] is not None
    bits[step] = 8  # numbers of 1/64 and more are outside
    assert classify(audited(lowered, *bits), picture())[0] is None


@pytest.mark.parametrize(
    ("value", "inside"),  # in 8 bits chance decides at -128 to -125 and at 128 to 131
    [(127, True), (132, False), (-124, True), (-129, False), (2**30, False)],
)
def test_one_number_at_the_edge_decides(value: int, inside: bool) -> None:
    lowered = audited(lower(nn.Sequential(nn.ReLU(), Identity(6)), (1, 6), compare_bits=8))
    values = torch.tensor([[0, 3, -7, 100, -100, 1]])
    values[0, 4] = value
    scores, *_ = classify(lowered, values.double() * UNIT)
    assert (scores is not None) is inside
    if inside:
        found = (scores / UNIT).round().to(torch.int64)
        assert (found - values.clamp(min=0)).abs().max() <= 1


def test_a_maximum_is_checked_by_the_difference() -> None:
    # 100 and -100 are inside 8 bits, 200 is not.
    net = nn.Sequential(nn.MaxPool2d((1, 2)), nn.Flatten(), Identity(1))
    lowered = audited(lower(net, (1, 1, 1, 2), compare_bits=8))
    far, near = (torch.tensor([[[[100.0, low]]]]) * UNIT for low in (-100.0, -20.0))
    assert classify(lowered, far)[0] is None
    assert (classify(lowered, near)[0] / UNIT).round().tolist() == [[100]]


def test_one_image_outside_takes_the_scores_of_its_batch() -> None:
    lowered = audited(lower(nn.Sequential(nn.ReLU(), Identity(2)), (3, 2), compare_bits=8))
    values = torch.zeros(3, 2)
    assert classify(lowered, values)[0].shape == (3, 2)
    values[1, 0] = 1.0
    assert classify(lowered, values)[0] is None


class CutsWrongly(ModelOwner):
    """One number of one layer is off by 2^48, as local truncation has it now and then."""

    layer, off = 0, 1 << 48

    def _linear(self, step: Linear) -> Tensor:
        share = super()._linear(step)
        if step.weight == self.layer:
            share.view(-1)[-1] += self.off
        return share


def run(lowered: Lowered, owner: type[ModelOwner], image: Tensor) -> Tensor | None:
    mine, theirs = deal(lowered)
    ends = linked()
    other = owner(lowered.plan, theirs, ends[1], lowered.weights)
    thread = threading.Thread(target=other.answer)
    thread.start()
    scores = DataOwner(lowered.plan, mine, ends[0]).classify(image)
    thread.join(60)
    return scores


@pytest.mark.parametrize("off", [1 << 48, -(1 << 48)])
@pytest.mark.parametrize("layer", range(5))
def test_a_number_that_is_cut_wrongly_is_seen_in_every_layer(layer: int, off: int) -> None:
    owner = type("Owner", (CutsWrongly,), {"layer": layer, "off": off})
    for bits in (32, 48):
        assert run(audited(network(compare_bits=bits)), owner, picture()) is None
    right = type("Owner", (CutsWrongly,), {"layer": layer, "off": 0})
    assert run(audited(network()), right, picture()) is not None


def test_what_is_on_the_line_does_not_tell_what_was_found() -> None:
    lowered = network(32)
    outside = audited(lowered, *[32] * 11, 8)
    image = torch.full((1, 1, 32, 32), 3.0)
    assert classify(outside, image)[0] is None
    transcripts = [frames_of(image, one) for one in (audited(lowered), outside)]
    for party in range(2):
        lengths = [[len(frame) for frame in transcript[party]] for transcript in transcripts]
        assert lengths[0] == lengths[1]
        for transcript in transcripts:
            assert chi_square(transcript[party]) < 400  # 255 degrees of freedom; 1 in 10^8


def last_frames(values: Tensor, runs: int) -> tuple[list[bytes], list[bytes]]:
    """The end of what the model owner and the data owner received, over many blocks."""
    net = lower(nn.Sequential(nn.ReLU(), Identity(2)), (1, 2), compare_bits=8)
    hashes, answers = [], []
    for _ in range(runs):
        _, mine, theirs = classify(audited(net), values)
        hashes.append(theirs.received[-1][-32:])
        answers.append(mine.received[-1])
    return hashes, answers


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_both_messages_of_the_audit_are_uniform(value: float) -> None:
    for frames in last_frames(torch.full((1, 2), value), 400):
        assert chi_square(frames) < 400


def test_masked_scores_are_uniform_for_who_has_no_key() -> None:
    """The data owner takes its own mask away all the same, and has nothing."""
    net = audited(lower(nn.Sequential(nn.ReLU(), Identity(2)), (1, 2), compare_bits=8))
    tries = []
    for _ in range(400):
        mine, theirs = deal(net)
        ends = linked()
        owner = ModelOwner(net.plan, theirs, ends[1], net.weights)
        thread = threading.Thread(target=owner.answer)
        thread.start()
        data = DataOwner(net.plan, mine, ends[0])
        assert data.classify(torch.full((1, 2), 5.0)) is None
        thread.join(60)
        share = data._values[net.plan.steps[-1].source]  # type: ignore[union-attr]
        masked = np.frombuffer(ends[0].received[-1][16:], np.uint64)
        assert isinstance(mine.release, audit.Key)
        own = audit.score_mask(mine.release.key.tobytes()[16:], 2)
        tries.append((masked - own + dealing.words(share).ravel()).tobytes())
    assert chi_square(tries) < 400


@pytest.mark.parametrize(
    ("length", "words"), [(0, "too early"), (56, "too early"), (72, "too many")]
)
def test_a_last_frame_of_another_length_is_refused(length: int, words: str) -> None:
    lowered = audited(lower(nn.Sequential(Identity(4)), (1, 4)))
    _, theirs = deal(lowered)
    mine_end, their_end = linked()
    mine_end.send(bytes(length))
    owner = ModelOwner(lowered.plan, theirs, their_end, lowered.weights)
    with pytest.raises(ProtocolError, match=words):
        owner.answer()
    assert their_end.num_sent == 0


@pytest.mark.parametrize("length", [0, 15, 16, 40])
def test_an_answer_of_another_length_is_refused(length: int) -> None:
    lowered = audited(lower(nn.Sequential(Identity(4)), (1, 4)))
    mine, _ = deal(lowered)
    mine_end, their_end = linked()
    their_end.send(bytes(length))
    with pytest.raises(ProtocolError, match=rf"a frame of {max(length - 16, 0)} bytes; expected"):
        DataOwner(lowered.plan, mine, mine_end).classify(torch.zeros(1, 4))


def test_a_block_that_was_dealt_without_audit_is_refused_by_both() -> None:
    lowered = lower(nn.Sequential(Identity(4)), (1, 4))
    mine, theirs = deal(lowered)
    plan = audited(lowered).plan
    mine_end, their_end = linked()
    with pytest.raises(ProtocolError, match="expected the key of its release"):
        DataOwner(plan, mine, mine_end).classify(torch.zeros(1, 4))
    mine_end.send(bytes(64))
    with pytest.raises(ProtocolError, match="expected the lock of its release"):
        ModelOwner(plan, theirs, their_end, lowered.weights).answer()
    assert mine_end.num_sent == 64
    assert their_end.num_sent == 0


def test_pixels_beyond_the_limit_are_refused_before_anything_is_sent() -> None:
    lowered = audited(lower(nn.Sequential(Identity(4)), (1, 4)))
    mine, _ = deal(lowered)
    end, _ = linked()
    with pytest.raises(ProtocolError, match="magnitude 262144; an audit expects them below"):
        DataOwner(lowered.plan, mine, end).classify(torch.full((1, 4), 2.0**18))
    assert end.num_sent == 0
