"""What training leaves as it is, and no site sends back."""

import pytest

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models.frozen_arrays import check_shared, frozen_arrays, without
from primia_flwr.models.registry import build_model

KERNELS = {f"features.{4 * n}.weight" for n in range(4)}
NORMS = {f"features.{4 * n + 1}.{part}" for n in range(4) for part in ("weight", "bias")}


@pytest.mark.parametrize(
    ("trainable", "frozen"),
    [
        ("all", set()),
        ("norm", KERNELS),
        ("head", KERNELS | NORMS),
        # an adapter is no smaller than the first layer: 8 (9 + 32) = 328 to 288
        (
            "lora",
            NORMS | {"features.0.weight", *(f"features.{4 * n}.base.weight" for n in (1, 2, 3))},
        ),
    ],
)
def test_all_parameters_but_the_trained_ones(trainable: str, frozen: set[str]) -> None:
    cfg = ModelConfig(name="simpleconv", trainable=trainable, weights="w.pth")
    assert frozen_arrays(cfg, outputs=3, channels=1) == frozen
    model = build_model(cfg, outputs=3, channels=1, first_weights=False)
    left = without(model.state_dict(), frozen)
    assert {"classifier.weight", "classifier.bias", "features.1.running_mean"} <= left.keys()
    assert list(left) == [name for name in model.state_dict() if name not in frozen]


def test_of_a_frozen_norm_the_bias_of_its_convolution_stays_too() -> None:
    cfg = ModelConfig(name="simpleconv", norm="frozen", trainable="norm", weights="w.pth")
    biases = {name.replace("weight", "bias") for name in KERNELS}
    assert frozen_arrays(cfg, outputs=3, channels=1) == KERNELS | biases


def test_a_model_of_which_nothing_would_be_shared_is_refused() -> None:
    check_shared(ModelConfig(name="simpleconv", shared="body"), channels=1)
    check_shared(ModelConfig(name="scattering"), channels=1)
    with pytest.raises(ConfigError, match=r"shared=body with model\.name=scattering; expected all"):
        check_shared(ModelConfig(name="scattering", shared="body"), channels=1)
