"""What a configuration of a federated search may change, and the experiment that it then is."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from omegaconf import OmegaConf

from primia_flwr.config.checks import nearest
from primia_flwr.config.experiment.data import AugmentationConfig, MixupConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.search import SearchConfig
from primia_flwr.config.parsing import parse
from primia_flwr.config.rules import Need
from primia_flwr.config.search.space import Space, parse_space
from primia_flwr.errors import ConfigError

_Values = Mapping[str, Any]


def _leaves(prefix: str, section: object) -> Iterator[str]:
    for part in fields(section):  # type: ignore[arg-type]
        value = getattr(section, part.name)
        key = f"{prefix}.{part.name}"
        yield from _leaves(key, value) if is_dataclass(value) else (key,)


# What a site reads anew in every round, and what changes neither the model's shape, nor what a
# round costs in images, nor what leaves a site.
SEARCHABLE: tuple[str, ...] = (
    "training.optimizer",
    "training.learning_rate",
    "training.min_learning_rate",
    "training.schedule",
    "training.warmup",
    "training.cycles",
    "training.momentum",
    "training.betas",
    "training.weight_decay",
    "training.batch_size",
    "training.class_weights",
    "training.label_smoothing",
    "training.gradient_clip",
    "training.proximal_mu",
    *_leaves("data.augmentation", AugmentationConfig()),
    *_leaves("data.mixup", MixupConfig()),
)


def check_search(experiment: Experiment) -> None:
    """Refuse a search that cannot be, or that would break what the run claims.

    Raises
    ------
    ConfigError
        Naming the first key in the way, why, and what to set.
    """
    name = experiment.strategy.name
    if not experiment.search.rungs(experiment.federation.rounds):
        return
    if experiment.privacy.protected_unit:
        raise ConfigError(
            f"privacy.mode={experiment.privacy.mode} with search.population="
            f"{experiment.search.population}; expected privacy=none: which configuration is chosen "
            "depends on exact validation counts, and is a release that no epsilon covers"
        )
    if experiment.strategy.rule.needs is not Need.MEAN:
        raise ConfigError(
            f"strategy.name={name} with search.population={experiment.search.population}; expected "
            "a rule that needs only the mean, e.g. fedavg, because a search learns of every "
            "configuration sums over the sites only"
        )
    by_batches = experiment.training.sync_every_n_batches
    for key in space_of(experiment).names:
        if key not in SEARCHABLE:
            raise ConfigError(
                f"search.space has {key}, which cannot vary inside a run; expected keys that a "
                f"site reads in every round, e.g. training.learning_rate{nearest(key, SEARCHABLE)}"
                "; to vary others, search over whole runs with primia train -m"
            )
        if key == "training.batch_size" and by_batches:
            raise ConfigError(
                f"search.space has {key} with training.sync_every_n_batches={by_batches}; expected "
                "rounds that cost every configuration as many images; set "
                "training.sync_every_n_batches=0, or leave the batch size out"
            )


def space_of(experiment: Experiment) -> Space:
    """Return the space that the experiment's configurations are drawn from.

    Raises
    ------
    ConfigError
        If it is empty or contradicts itself.
    """
    return parse_space(experiment.search.space)


def with_values(experiment: Experiment, values: _Values) -> Experiment:
    """Return the ordinary experiment, without a search, that a configuration stands for.

    `values`: by key, e.g. training.learning_rate; none: its own. `experiment` is not changed.

    Raises
    ------
    ConfigError
        If a key may not vary, or the values contradict each other or the experiment.
    """
    odd = sorted(set(values) - set(SEARCHABLE))
    if odd:
        raise ConfigError(f"{odd[0]} cannot vary inside a run; expected one of the searchable keys")
    config = OmegaConf.structured(replace(experiment, search=SearchConfig()))
    try:
        for key, value in values.items():
            OmegaConf.update(config, key, value, merge=False)
    except Exception as error:  # OmegaConf's many kinds: a wrong type above all
        raise ConfigError(f"{key}={value!r}: {' '.join(str(error).split())}") from None
    return parse(type(experiment), config)
