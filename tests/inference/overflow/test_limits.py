from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.inference import (
    MAX_AUDITED_BITS,
    InferArguments,
    InferenceTrialArguments,
    ServeModelArguments,
)
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.builder import Weights
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.overflow.limits import beyond, check_plan, check_products
from primia_flwr.inference.plan import (
    Add,
    Average,
    Flatten,
    Linear,
    MaxLevel,
    Open,
    Plan,
    Relu,
    Reveal,
    Step,
)
from primia_flwr.models.registry import build_model

# Their blocks end without a ReLU, or begin with a norm.
UNAUDITED = ("densenet121", "efficientnet_lite0", "mobilenet_v2")
ENCRYPTED = sorted(set(MODELS) - {"unet3d"})  # whose layers have encrypted forms


def lowered_model(name: str, **options: str) -> Lowered:
    cfg = ModelConfig(name=name, **options)  # type: ignore[arg-type]
    model = build_model(cfg, outputs=3, channels=1, seed=0).eval()
    return lower(model, (1, 1, 32, 32))


def test_the_largest_ring_is_what_a_wrong_cut_leaves() -> None:
    wrong, cut = 2 ** (64 - ring.WEIGHT_BITS), 2 ** (62 - ring.WEIGHT_BITS)
    ring_ = 2 ** (MAX_AUDITED_BITS - 1)
    for right in (2 * cut, cut + ring_):  # of two cuts, of a cut and a number in its ring
        assert wrong - right >= ring_
    too_large = 2 * ring_
    assert wrong - (cut + too_large) < too_large


@pytest.mark.parametrize(
    ("value", "out"),
    [(2**31 - 1, False), (2**31, True), (-(2**31), False), (-(2**31) - 1, True), (-(2**63), True)],
)
def test_images_and_scores_beyond_the_limit(value: int, out: bool) -> None:
    assert beyond(torch.tensor([[0, value]])) is out


def layer(*weights: int, bias: int = 0) -> tuple[Weights, ...]:
    return (Weights(torch.tensor([weights, [1] * len(weights)]), torch.tensor([bias, 0])),)


def test_products_stay_below_62_bits() -> None:
    check_products(layer(2**30, -(2**30) + 1), 32)  # 2^31 (2^31 - 1) < 2^62
    check_products(layer(2**22, 2**22 - 1), 40)
    with pytest.raises(ConfigError, match=r"compare_bits=32.*set audit=false"):
        check_products(layer(2**30, -(2**30)), 32)
    with pytest.raises(ConfigError, match=r"compare_bits=32.*set audit=false"):
        check_products(layer(2**30, -(2**30) + 1, bias=2**32), 32)
    with pytest.raises(ConfigError, match=r"compare_bits=40.*set compare_bits=39"):
        check_products(layer(2**23, 1), 40)
    check_products(layer(2**23, 1), 39)


class TwoLargeProducts(nn.Module):
    """relu(a x + b x) with weights so large that one wrong cut would bring the sum back."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        for branch in (self.a, self.b):
            nn.init.constant_(branch.weight, 65536 - 2**-8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x) + self.b(x))


def test_weights_with_which_a_wrong_cut_could_hide_in_a_sum_are_refused() -> None:
    """Each product just below 2^63: their sum and a wrong cut of 2^48 make about 0, unseen."""
    weights = lower(TwoLargeProducts().eval(), (1, 1)).weights
    with pytest.raises(ConfigError, match=r"could reach 2\^62"):
        check_products(weights, 32)


def test_images_count_in_a_small_ring_too() -> None:
    with pytest.raises(ConfigError, match=r"compare_bits=8.*set audit=false"):
        check_products(layer(2**31, 2**31), 8)


@pytest.mark.parametrize("name", ENCRYPTED)
def test_every_model_of_the_table_may_be_audited_in_32_bits(name: str) -> None:
    check_products(lowered_model(name).weights, 32)


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("name", sorted(set(ENCRYPTED) - set(UNAUDITED)))
def test_every_product_is_compared_before_it_is_used_and_every_factor_was(
    name: str, pool: str
) -> None:
    """Else a wrong cut, or a number outside, could be multiplied or averaged unseen."""
    check_plan(lowered_model(name, pool=pool).plan)


def test_a_network_of_volumes_has_no_encrypted_form() -> None:
    model = build_model(ModelConfig(name="unet3d"), outputs=2, channels=4, seed=0).eval()
    with pytest.raises(ConfigError, match="has no encrypted form"):
        lower(model, (1, 4, 16, 16))


@pytest.mark.parametrize("name", UNAUDITED)
def test_a_network_with_linear_layers_in_a_row_is_not_audited(name: str) -> None:
    with pytest.raises(ConfigError, match=r"audit=true: .* takes .*set audit=false"):
        check_plan(lowered_model(name).plan)


SHAPE = (1, 1)
CUT = (Open(0, 0, SHAPE), Linear(0, 1, 0, (1, 1), SHAPE), Linear(0, 2, 1, (1, 1), SHAPE))


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        ((Open(1, 1, SHAPE),), "linear layer 2"),
        ((Flatten(1, 3, SHAPE), Open(3, 1, SHAPE)), "linear layer 2"),
        ((Average(1, 3, ((0, 1),), ((0, 1),), SHAPE),), "an average"),
        ((Add(1, 2, 3, SHAPE), Add(3, 0, 4, SHAPE)), "a sum"),
        ((Add(1, 2, 3, SHAPE), Reveal(3, SHAPE)), "the answer"),
        ((Relu(1, 3, 0, SHAPE), Reveal(3, SHAPE)), "the answer"),
        ((Add(1, 2, 3, SHAPE), Relu(3, 4, 0, SHAPE), Open(4, 1, SHAPE), Reveal(1, SHAPE)), ""),
        ((MaxLevel(1, 3, 0, 1, (0,), (-1,), SHAPE), Open(3, 1, SHAPE)), "linear layer 2"),
    ],
)
def test_what_an_audit_must_have_seen(steps: tuple[Step, ...], what: str) -> None:
    plan = Plan(SHAPE, (*CUT, *steps), ())
    if not what:
        check_plan(plan)
        return
    with pytest.raises(ConfigError, match=f"audit=true: {what}"):
        check_plan(plan)


@pytest.mark.parametrize("arguments", [InferArguments, ServeModelArguments])
def test_crypten_has_no_audit(arguments: type[InferArguments]) -> None:
    with pytest.raises(ConfigError, match="audit=true with protocol=crypten; expected"):
        arguments(protocol="crypten", audit=True)


@pytest.mark.parametrize("arguments", [ServeModelArguments, InferenceTrialArguments])
def test_a_ring_in_which_a_wrong_cut_could_hide_is_refused(
    arguments: type[ServeModelArguments],
) -> None:
    arguments(compare_bits=47, audit=True)
    with pytest.raises(ConfigError, match="compare_bits=48; expected at most 47"):
        arguments(compare_bits=48, audit=True)
