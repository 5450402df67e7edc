"""What a run that claims differential privacy may not contain, and what to use instead."""

from collections.abc import Callable, Iterator
from typing import Any

from primia_flwr.errors import ConfigError

_Rule = tuple[str, object, object, str]  # key, value, what it must be (a tuple: one of), why


def check_guarantee(experiment: Any) -> None:
    """Refuse what would break an experiment's guarantee, or release a number without noise.

    Raises
    ------
    ConfigError
        Naming the first such key, why it cannot be, and what to set.
    """
    mode = experiment.privacy.mode
    rules = (rule for part in _RULES_OF[mode] for rule in part(experiment))
    for key, value, needed, reason in rules:
        allowed = needed if isinstance(needed, tuple) else (needed,)
        if value not in allowed:
            expected = " or ".join(_plain(one) for one in allowed)
            raise ConfigError(
                f"{key}={_plain(value)} with privacy.mode={mode}; expected {expected}: {reason}"
            )


def _every_mode(experiment: Any) -> Iterator[_Rule]:
    privacy, data, training = experiment.privacy, experiment.data, experiment.training
    stopping = training.early_stopping
    yield (
        "aggregation.name", experiment.aggregation.name,
        ("secure", "relay", "asynchronous") if privacy.mode == "dp_sgd" else "secure",
        "what a site reports besides its update is left out of secure sums only; set "
        "aggregation=secure",
    )  # fmt: skip
    yield (
        "strategy.weighting", experiment.strategy.weighting, "equal",
        "the exact number of images or batches is a number about the patients",
    )  # fmt: skip
    yield (
        "training.class_weights", training.class_weights, "none",
        "weights from the sites' class counts depend on every patient",
    )  # fmt: skip
    yield (
        "debug.cross_site", experiment.debug.cross_site, False,
        "a private run sends no validation counts, because each would cost privacy of its own",
    )  # fmt: skip
    yield (
        "debug.verify_sums", experiment.debug.verify_sums, False,
        "it writes down the update of every site",
    )  # fmt: skip
    yield (
        "data.volumes.fingerprint", data.volumes.fingerprint, False,
        "exact counts of volumes have no finite epsilon",
    )  # fmt: skip
    for scope, patience in (
        ("site", stopping.site.patience), ("federation", stopping.federation.patience)
    ):  # fmt: skip
        yield (
            f"training.early_stopping.{scope}.patience", patience, 0,
            "when a run stops depends on validation patients, and nothing is validated in it; the "
            "number of rounds is fixed and the last model is taken",
        )  # fmt: skip
    yield (
        "data.normalisation.kind", data.normalisation.kind,
        "federated" if privacy.statistics_noise else "fixed",
        "exact pixel statistics have no finite epsilon; with privacy.statistics_noise above 0 they "
        "are federated and noisy, without it data.normalisation.mean and .std are constants",
    )  # fmt: skip


def _dp_sgd(experiment: Any) -> Iterator[_Rule]:
    data, model, training = experiment.data, experiment.model, experiment.training
    yield (
        "model.norm", model.norm, ("group", "none", "frozen"),
        "batch norm mixes the patients of a batch, so that none of them has a gradient of its own "
        "to clip; with model.norm=group add model.weight_standardisation=true; a model that shall "
        "be served encrypted needs model.norm=none, or frozen where weights are pre-trained",
    )  # fmt: skip
    yield (
        "data.mixup.probability", data.mixup.probability, 0.0,
        "a mixture of two patients' images belongs to both",
    )  # fmt: skip
    yield (
        "training.proximal_mu", training.proximal_mu, 0.0,
        "the private step knows no proximal term; set strategy=fedavg",
    )  # fmt: skip
    yield (
        "training.gradient_clip", training.gradient_clip, 0.0,
        "each unit's gradient is clipped already, to privacy.clip_norm",
    )  # fmt: skip
    yield (
        "training.precision", training.precision, "fp32",
        "norms in half precision bound nothing",
    )  # fmt: skip
    yield (
        "training.compile", training.compile, False,
        "the clipping watches the layers at work",
    )  # fmt: skip


def _shared(experiment: Any) -> Iterator[_Rule]:
    reason = (
        "a shared step is one learning rate times the noisy mean, added up over the sites; "
        "momentum belongs to the coordinator, e.g. strategy.name=fedadam"
    )
    for key, needed in (
        ("optimizer", "sgd"), ("momentum", 0.0), ("weight_decay", 0.0), ("schedule", "constant"),
        ("warmup", 0.0),
    ):  # fmt: skip
        yield f"training.{key}", getattr(experiment.training, key), needed, reason


_RULES_OF: dict[str, tuple[Callable[[Any], Iterator[_Rule]], ...]] = {
    "none": (),
    "dp_aggregate": (_every_mode,),
    "dp_sgd": (_every_mode, _dp_sgd),
    "dp_sgd_shared": (_every_mode, _dp_sgd, _shared),
}


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
