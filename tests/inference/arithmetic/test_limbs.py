from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from primia_flwr.errors import ConfigError, ServiceError
from primia_flwr.inference.arithmetic import limbs, ring
from primia_flwr.inference.arithmetic.randomness import fresh_seed
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.plan import Geometry
from primia_flwr.inference.preprocessing.dealing import Dealer, weight_masks
from primia_flwr.inference.preprocessing.prepared import masked_products
from tests.inference.memory_link import classify
from tests.inference.protocol.test_online import small_model
from tests.inference.protocol.test_session import Parties, served

WORDS = st.integers(-(2**63), 2**63 - 1)
SEEDS = st.integers(0, 2**32)
CUDA = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def words(*shape: int, seed: int = 0) -> Tensor:
    """Return words of all 64 bits, some of them at the ends of the range or worst for limbs."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-(2**63), 2**63 - 1, shape, generator=generator)
    special = torch.tensor([-(2**63), 2**63 - 1, limbs.WORST, -1, 0])
    chosen = special[torch.randint(len(special), shape, generator=generator)]
    return torch.where(torch.rand(shape, generator=generator) < 0.5, chosen, drawn)


@settings(deadline=None)
@example(-(2**63))
@example(2**63 - 1)
@example(limbs.WORST)
@given(WORDS)
def test_limbs_are_centred_and_sum_to_the_word(word: int) -> None:
    low, middle, high = (int(limb) for limb in limbs.split(torch.tensor([word])))
    assert (low + middle * 2**22 + high * 2**44 - word) % 2**64 == 0
    assert min(low, middle) >= -(2**21)
    assert max(low, middle) < 2**21
    assert -(2**19) <= high < 2**19


def test_limbs_by_hand() -> None:
    # 2^21 is one above the largest limb: -2^21, and one carried.
    found = limbs.split(torch.tensor([5, -1, 2**21, limbs.WORST]))
    assert found.dtype == torch.float64
    assert found.T.tolist() == [
        [5, 0, 0],
        [-1, 0, 0],
        [-(2**21), 1, 0],
        [-(2**21), -(2**21), -(2**19)],
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(WORDS, min_size=6, max_size=6),
    st.lists(WORDS, min_size=6, max_size=6),
)
def test_products_are_those_of_integers_modulo_2_64(a: list[int], b: list[int]) -> None:
    left, right = torch.tensor(a).reshape(2, 3), torch.tensor(b).reshape(2, 3)
    found = limbs.product(left, right, None)
    for i in range(2):
        for j in range(2):
            exact = sum(int(left[i, k]) * int(right[j, k]) for k in range(3))
            assert (int(found[i, j]) - exact) % 2**64 == 0


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=PAIRS,
    groups=st.integers(1, 3),
    kernel=PAIRS,
    channels=st.integers(1, 3),
    images=st.integers(1, 2),
    seed=SEEDS,
)
def test_every_geometry_gives_what_integers_give(
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    kernel: tuple[int, int],
    channels: int,
    images: int,
    seed: int,
) -> None:
    value = words(images, groups * channels, 7, 8, seed=seed)
    weight = words(2 * groups, channels, *kernel, seed=seed + 1)
    geometry = Geometry(stride, padding, dilation, groups)
    found = limbs.product(value, weight, geometry)
    assert torch.equal(found, ring.product(value, weight, geometry))


@settings(max_examples=20, deadline=None)
@given(inner=st.integers(1, 2 * limbs.TERMS + 1), images=st.integers(1, 3), seed=SEEDS)
def test_linear_layers_give_what_integers_give(inner: int, images: int, seed: int) -> None:
    value, weight = words(images, inner, seed=seed), words(4, inner, seed=seed + 1)
    found = limbs.product(value, weight, None)
    assert torch.equal(found, ring.product(value, weight, None))


# (channels, kernel, cells): as many terms as layers of ResNet-50 and VGG-16 have, and kernels
# whose one channel has more than 2^11.
LARGEST = [(512, 3, 3), (2048, 1, 2), (1024, 1, 2), (64, 7, 7), (1, 46, 47), (2, 50, 51)]


@pytest.mark.parametrize(("channels", "kernel", "size"), LARGEST)
@pytest.mark.parametrize("worst", [True, False])
def test_the_largest_sums_are_exact(channels: int, kernel: int, size: int, worst: bool) -> None:
    shapes = (1, channels, size, size), (3, channels, kernel, kernel)
    value, weight = (
        torch.full(shape, limbs.WORST) if worst else words(*shape, seed=n)
        for n, shape in enumerate(shapes)
    )
    geometry = Geometry(padding=(kernel // 2, kernel // 2) if kernel < 10 else (0, 0))
    found = limbs.product(value, weight, geometry)
    assert torch.equal(found, ring.product(value, weight, geometry))


def test_the_largest_linear_layer_is_exact() -> None:
    # VGG-16's first: 512 maps of 7 x 7.
    value, weight = torch.full((1, 25088), limbs.WORST), torch.full((2, 25088), limbs.WORST)
    expected = (25088 * limbs.WORST**2 + 2**63) % 2**64 - 2**63
    assert limbs.product(value, weight, None).tolist() == [[expected, expected]]


def test_twice_the_terms_would_not_be_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    # Limbs of 2^21 - 1: 4,095 products sum to an odd number above 2^53, which float64 lacks.
    odd = torch.full((1, 4095), (2**21 - 1) * (1 + 2**22))
    expected = ring.product(odd, odd, None)
    assert torch.equal(limbs.product(odd, odd, None), expected)
    monkeypatch.setattr(limbs, "TERMS", 4096)
    assert not torch.equal(limbs.product(odd, odd, None), expected)


def test_windows_are_unfolded_some_channels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    value, weight = words(2, 5, 6, 6), words(3, 5, 3, 3, seed=1)
    geometry = Geometry(padding=(1, 1))
    monkeypatch.setattr(limbs, "_ENTRIES", 3 * 9 * 36 * 2 + 1)  # of two channels of five
    found = limbs.product(value, weight, geometry)
    monkeypatch.setattr(limbs, "_ENTRIES", 1)  # less than one: still one at a time
    assert torch.equal(found, limbs.product(value, weight, geometry))
    assert torch.equal(found, ring.product(value, weight, geometry))


@pytest.mark.parametrize(("name", "size", "batch"), [("simpleconv", 16, 2), ("resnet18", 32, 1)])
def test_a_network_runs_on_limbs_at_all_three_parties(
    name: str, size: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(name)
    images = torch.randn(batch, 1, size, size, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(ring, "product", limbs.product)
    scores, *_ = classify(lower(model, (batch, 1, size, size)), images)
    with torch.inference_mode():
        assert (scores - model(images)).abs().max() < 0.02


def test_a_device_that_is_exact_passes() -> None:
    limbs.require_exact(torch.device("cpu"))


def test_a_device_that_rounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda a, b: exact(a.float(), b.float()).double())
    with pytest.raises(ConfigError, match=r"not exact there; .*set device=cpu"):
        limbs.require_exact(torch.device("cpu"))


def test_a_device_that_does_not_compute_is_refused() -> None:
    # The meta device has shapes and no numbers.
    with pytest.raises(ConfigError, match=r"device=meta cannot be used .*set device=cpu"):
        limbs.require_exact(torch.device("meta"))


def test_a_full_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(limbs, "product", full)
    weight = torch.zeros(1, 1, dtype=torch.int64, device="meta")
    with pytest.raises(ServiceError, match=r"the memory of meta is full; .*device=cpu"):
        ring.product(torch.zeros(1, 1, dtype=torch.int64), weight, None)


def test_every_party_computes_where_it_is_told() -> None:
    # The meta device has shapes and no numbers: what is computed there cannot come back.
    meta = torch.device("meta")
    lowered = replace(served(), device=meta).lowered(1)
    assert {weights.weight.device for weights in lowered.weights} == {meta}
    spec, seed = CorrelationSpec.of(lowered.plan), fresh_seed()
    masked = [ring.place(mask, meta) for mask in weight_masks(spec, seed)]
    with pytest.raises(NotImplementedError, match="meta"):
        list(masked_products(spec, seed, masked))
    with pytest.raises(NotImplementedError, match="meta"):
        list(Dealer(spec, seed, device=meta).block())


@needs_gpu
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    limbs.require_exact(CUDA)
    for channels, kernel, size in LARGEST:
        value = words(2, channels, size, size)
        weight = words(8, channels, kernel, kernel, seed=1)
        found = ring.product(value, ring.place(weight, CUDA), Geometry())
        assert found.device == ring.CPU
        assert torch.equal(found, ring.product(value, weight, Geometry()))


@needs_gpu
def test_a_session_with_a_gpu_at_every_party(tmp_path: Path) -> None:
    parties = Parties(tmp_path, model=replace(served(), device=CUDA))
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    with parties.running(), parties.session(1) as session:
        scores = session.classify(image).scores
    with torch.inference_mode():
        assert (scores - served().model(image)).abs().max() < 0.02
