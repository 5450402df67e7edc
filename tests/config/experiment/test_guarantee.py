import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.errors import ConfigError


def experiment(*overrides: str) -> Experiment:
    return parse(Experiment, compose("config", overrides))


@pytest.mark.parametrize("mode", ["dp_sgd", "dp_aggregate", "dp_sgd_shared"])
@pytest.mark.parametrize("name", ["demo", "pneumonia"])
def test_the_choice_alone_makes_an_experiment_private(mode: str, name: str) -> None:
    found = experiment(f"experiment={name}", f"privacy={mode}")
    assert found.privacy.mode == mode
    assert found.aggregation.secure
    assert (found.strategy.weighting, found.data.normalisation.kind) == ("equal", "fixed")
    assert found.model.norm == "group"


@pytest.mark.parametrize(
    ("mode", "override", "reason"),
    [
        (
            "dp_sgd",
            "model={norm: batch, weight_standardisation: false}",
            "expected group or none or frozen: batch",
        ),
        ("dp_sgd", "data.mixup.probability=0.5", "belongs to both"),
        ("dp_sgd", "training.gradient_clip=1.0", "clipped already"),
        ("dp_sgd", "training.precision=bf16", "bound nothing"),
        ("dp_sgd", "training.compile=true", "training.compile=true"),
        ("dp_sgd", "aggregation=plain", "aggregation.name=plain"),
        ("dp_aggregate", "aggregation=plain", "aggregation.name=plain"),
        ("dp_sgd", "strategy.weighting=images", "exact number of images"),
        ("dp_aggregate", "strategy.weighting=batches", "exact number of images"),
        ("dp_sgd", "training.class_weights=balanced", "class counts"),
        ("dp_sgd", "training.early_stopping.federation.patience=2", "the last model is taken"),
        ("dp_aggregate", "data.normalisation.kind=federated", "no finite epsilon"),
        ("dp_aggregate", "debug.verify_sums=true", "update of every site"),
        ("dp_sgd_shared", "training.momentum=0.9", "belongs to the coordinator"),
        ("dp_sgd_shared", "training.optimizer=adamw", "belongs to the coordinator"),
        ("dp_sgd_shared", "training.schedule=one_cycle", "belongs to the coordinator"),
        ("dp_sgd_shared", "data.mixup.probability=0.5", "belongs to both"),
        ("dp_sgd_shared", "privacy.steps=2", "every round is one step"),
        ("dp_sgd_shared", "privacy.sampling_rate=0", "expected above 0"),
        ("dp_sgd", "privacy.sampling_rate=0.2", "expected 0 but for privacy=dp_sgd_shared"),
        ("dp_sgd", "privacy.noise_multiplier=1.0", "expected one of them above 0"),
        ("dp_sgd", "privacy.epsilon=0", "expected one of them above 0"),
        ("dp_sgd", "privacy.delta=1", "privacy.delta=1"),
        ("dp_sgd", "privacy.delta=0", "privacy.delta=0"),
        ("dp_sgd", "privacy.epsilon=-1", "privacy.epsilon=-1"),
        ("dp_sgd", "privacy.unit=hospital", "expected one of patient, image"),
        ("dp_sgd", "privacy.engine=magic", "expected one of ghost, loop, opacus"),
        ("dp_sgd", "privacy.clip_norm=0", "privacy.clip_norm=0"),
    ],
)
def test_what_breaks_the_guarantee_is_refused_with_the_reason(
    mode: str, override: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        experiment(f"privacy={mode}", override)
    assert reason in str(caught.value)


def test_batch_norm_is_told_what_can_be_served_encrypted_too() -> None:
    with pytest.raises(ConfigError, match=r"served encrypted needs model\.norm=none"):
        experiment("privacy=dp_sgd", "model={norm: batch, weight_standardisation: false}")


@pytest.mark.parametrize("standardised", ["true", "false"])
def test_without_normalisation_kernels_are_standardised_whatever_is_asked(
    standardised: str,
) -> None:
    asked = f"model.weight_standardisation={standardised}"
    for mode in ("dp_sgd", "dp_aggregate", "dp_sgd_shared", "none"):
        assert experiment(f"privacy={mode}", "model.norm=none", asked).model.weight_standardisation


def test_a_proximal_term_is_refused() -> None:
    with pytest.raises(ConfigError, match="proximal"):
        experiment("privacy=dp_sgd", "training.proximal_mu=0.1")


def test_without_privacy_nothing_of_this_is_asked() -> None:
    found = experiment("model.norm=batch", "aggregation=plain", "strategy.weighting=images")
    assert not found.privacy.enabled


def test_frozen_layers_need_weights_that_are_worth_keeping() -> None:
    with pytest.raises(ConfigError, match=r"model.trainable=head with model.weights=none"):
        experiment("model.trainable=head")
    assert experiment("model.trainable=head", "model.weights=a.safetensors").model.trainable
