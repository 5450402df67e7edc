from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.protocol.online import DataOwner, ModelOwner
from primia_flwr.models.registry import build_model
from tests.inference.memory_link import classify, deal, linked

UNIT = 2.0**-ring.ACTIVATION_BITS


class Identity(nn.Module):
    """A linear layer that changes nothing, so that a plan can end in a comparison's result."""

    def __new__(cls, size: int) -> nn.Linear:  # type: ignore[misc]
        layer = nn.Linear(size, size, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.eye(size))
        return layer


def integers(*shape: int, seed: int = 0, largest: int = 1000) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**20), 2**20), min_size=6, max_size=6))
def test_relu_equals_the_integers(values: list[int]) -> None:
    lowered = lower(nn.Sequential(nn.ReLU(), Identity(6)), (1, 6))
    scores, *_ = classify(lowered, torch.tensor([values]) * UNIT)
    found = (scores / UNIT).round().to(torch.int64)
    # The last layer multiplies by 2^16 and cuts 16 bits off: one unit at most.
    assert (found - torch.tensor(values).clamp(min=0)).abs().max() <= 1


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d((1, 3), (1, 2))]
)
def test_max_pool_equals_the_integers(pool: nn.MaxPool2d) -> None:
    values = integers(2, 3, 7, 8)
    expected = pool(values.double())
    size = expected[0].numel()
    net = nn.Sequential(pool, nn.Flatten(), Identity(size))
    scores, *_ = classify(lower(net, tuple(values.shape)), values * UNIT)
    assert ((scores / UNIT).round() - expected.flatten(1)).abs().max() <= 1


def test_average_pool_equals_the_integers() -> None:
    values = integers(2, 3, 4, 6)
    pool = nn.AdaptiveAvgPool2d(1)
    net = nn.Sequential(pool, nn.Flatten(), Identity(3))
    scores, *_ = classify(lower(net, (2, 3, 4, 6)), values * UNIT)
    # One unit of the division, one of the layer after it, and half of the quotient's rounding.
    assert ((scores / UNIT) - pool(values.double()).flatten(1)).abs().max() <= 2.5


def test_convolution_of_whole_numbers_is_exact_to_a_unit() -> None:
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    with torch.no_grad():
        layer.weight.copy_(integers(3, 2, 3, 3, seed=1, largest=3).float())
        layer.bias.copy_(torch.tensor([1.0, -2.0, 0.5]))  # type: ignore[union-attr]
    values = integers(1, 2, 5, 5, seed=2, largest=50).float()
    net = nn.Sequential(layer, nn.Flatten(), Identity(27))
    scores, *_ = classify(lower(net, (1, 2, 5, 5)), values)
    assert (scores - layer(values).double().flatten(1)).abs().max() <= 2 * UNIT


def small_model(name: str, **options: str) -> nn.Module:
    cfg = ModelConfig(name=name, **options)  # type: ignore[arg-type]
    model = build_model(cfg, outputs=3, channels=1, seed=0)
    with torch.no_grad():  # statistics that are not those of an untrained network
        if name == "scattering":
            model.classifier.weight.normal_(std=0.02, generator=_generator())  # type: ignore[union-attr, operator]
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5, generator=_generator())  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0, generator=_generator())  # type: ignore[union-attr]
    return model.eval()


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize(
    ("name", "pool", "size", "batch"),
    [
        ("simpleconv", "avg", 32, 2),
        ("simpleconv", "max", 16, 1),
        ("resnet18", "avg", 32, 1),
        ("scattering", "avg", 32, 2),
    ],
)
def test_scores_are_those_of_the_plain_model(name: str, pool: str, size: int, batch: int) -> None:
    model = small_model(name, pool=pool)
    lowered = lower(model, (batch, 1, size, size))
    images = torch.randn(batch, 1, size, size, generator=_generator())
    with torch.inference_mode():
        plain, features = model(images), lowered.front(images)
    scores, *_ = classify(lowered, features)
    assert (scores - plain).abs().max() < 0.02
    assert scores.argmax(dim=1).tolist() == plain.argmax(dim=1).tolist()


def test_bytes_on_the_line_by_hand() -> None:
    # 4 inputs opened (8 bytes each), 4 compared (8 bytes, and 5 bytes of bits), 4 opened, revealed.
    net = nn.Sequential(Identity(4), nn.ReLU(), Identity(4))
    _, mine, theirs = classify(lower(net, (1, 4)), torch.zeros(1, 4))
    assert mine.num_sent == 32 + 32 + 5 + 32
    assert theirs.num_sent == 32 + 5 + 32


def frames_of(values: Tensor, lowered: Lowered) -> tuple[list[bytes], list[bytes]]:
    _, mine, theirs = classify(lowered, values)
    return mine.received, theirs.received


def chi_square(frames: list[bytes]) -> float:
    counts = np.bincount(np.frombuffer(b"".join(frames), np.uint8), minlength=256)
    expected = counts.sum() / 256
    return float(((counts - expected) ** 2 / expected).sum())


def test_what_each_party_receives_is_uniform_whatever_the_image() -> None:
    lowered = lower(small_model("simpleconv"), (1, 1, 32, 32))
    images = (torch.zeros(1, 1, 32, 32), torch.full((1, 1, 32, 32), 3.0))
    transcripts = [frames_of(image, lowered) for image in images]
    for party in range(2):
        # The last frame to the data owner is the model owner's share of the scores: uniform
        # too, but too short to count.
        for transcript in transcripts:
            assert chi_square(transcript[party]) < 400  # 255 degrees of freedom; 1 in 10^8
        lengths = [[len(frame) for frame in transcript[party]] for transcript in transcripts]
        assert lengths[0] == lengths[1]


def test_the_same_image_twice_gives_unrelated_transcripts() -> None:
    lowered = lower(small_model("simpleconv"), (1, 1, 32, 32))
    image = torch.randn(1, 1, 32, 32, generator=_generator())
    first, second = (b"".join(frames_of(image, lowered)[1]) for _ in range(2))
    differences = np.frombuffer(first, np.uint8) ^ np.frombuffer(second, np.uint8)
    assert chi_square([differences.tobytes()]) < 400


def test_images_of_another_size_are_refused_before_anything_is_sent() -> None:
    lowered = lower(small_model("simpleconv"), (1, 1, 32, 32))
    mine, _ = deal(lowered)
    end, _ = linked()
    with pytest.raises(ProtocolError, match=r"\(1, 1, 16, 16\); expected \(1, 1, 32, 32\)"):
        DataOwner(lowered.plan, mine, end).classify(torch.zeros(1, 1, 16, 16))
    assert end.num_sent == 0


@pytest.mark.parametrize(
    ("length", "words"), [(0, "too early"), (24, "too early"), (96, "too many")]
)
def test_a_frame_of_another_length_is_refused(length: int, words: str) -> None:
    lowered = lower(nn.Sequential(Identity(4), nn.ReLU(), Identity(4)), (1, 4))
    _, theirs = deal(lowered)
    mine_end, their_end = linked()
    mine_end.send(bytes(length))
    owner = ModelOwner(lowered.plan, theirs, their_end, lowered.weights)
    with pytest.raises(ProtocolError, match=words):
        owner.answer()
    assert their_end.num_sent == 0


def test_an_answer_of_another_length_is_refused() -> None:
    lowered = lower(nn.Sequential(Identity(4), nn.ReLU(), Identity(4)), (1, 4))
    mine, _ = deal(lowered)
    mine_end, their_end = linked()
    threading.Thread(target=lambda: (their_end.receive(1000), their_end.send(bytes(24)))).start()
    with pytest.raises(ProtocolError, match="a frame of 24 bytes; expected 32"):
        DataOwner(lowered.plan, mine, mine_end).classify(torch.zeros(1, 4))
