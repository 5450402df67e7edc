"""What can be attacked of a recorded run, and what was really in it.

Each target names which of the coordinator's bytes are taken as the gradient, and what a run must
have been like. The truth (which images a site trained on) comes from the simulation's data, is
used for scoring only, and never reaches the search.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from primia_flwr.attacks.inversion.relayed import handed_on, known_before
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError
from primia_flwr.runs.received import (
    MODEL,
    SITE_MODEL,
    SUM,
    SURVIVORS,
    Received,
    path_of,
    read_received,
    rounds_of,
    sites_of_round,
    trained_from,
)
from primia_flwr.training.plan import batches_an_epoch, steps_a_round

_CLEAR, _SECURE = ("plain", "relay"), ("secure",)
_FITTING = {
    "plain": "received_update",
    "relay": "relayed_model",
    "secure": "masked_update, secure_sum or crafted_model",
    "asynchronous": "local_model",
    "buffered": "local_model",
}
_SizeOf = Callable[[str], int]  # a site's number of training images


@dataclass(frozen=True)
class Target:
    """One row of the table.

    `ways`: of aggregation that have it; none: any. `one_step`: whether a site must have taken
    one step only. `one_image`: on one image.
    """

    meaning: str
    ways: tuple[str, ...] = ()
    one_step: bool = False
    one_image: bool = False


TARGETS: dict[str, Target] = {
    "single_image": Target("one site's step on one image", _CLEAR, one_step=True, one_image=True),
    "batch": Target("one site's step on a batch", _CLEAR, one_step=True),
    "received_update": Target("one site's round update, in the clear", _CLEAR),
    "relayed_model": Target("a model as the next hospital of a relay gets it", ("relay",)),
    "masked_update": Target("one site's masked update", _SECURE),
    "secure_sum": Target("the opened sum over the sites, honest model", _SECURE),
    "crafted_model": Target("the opened sum over a crafted model", _SECURE),
    "local_model": Target("a published model, against what it started from"),
}


@dataclass(frozen=True)
class Seen:
    """One update as it was seen.

    Attributes
    ----------
    name
        E.g. `round-001-berlin`.
    server_round
        From 1; of `local_model` the last one.
    sites
        Whose work is in it.
    base
        The model before, by name.
    change
        The update, w1 - w0 by name, to an unknown positive scale.
    steps
        Local steps in it, the most of any site.
    published
        Whether it is what a published model tells: all rounds together.
    """

    name: str
    server_round: int
    sites: tuple[str, ...]
    base: Mapping[str, Tensor]
    change: Mapping[str, Tensor]
    steps: int
    published: bool = False


def check_target(target: str, experiment: Experiment, size_of: _SizeOf) -> None:
    """Refuse a target that a run does not have.

    Raises
    ------
    ConfigError
        Naming what the run is like and with which keys to simulate it for this target.
    """
    row = TARGETS[target]
    way = experiment.aggregation.name
    if row.ways and way not in row.ways:
        wanted = "strategy=cyclic" if row.ways == ("relay",) else f"aggregation={row.ways[0]}"
        raise ConfigError(
            f"target={target} of a {way} run; expected a run with {wanted}; simulate one, or set "
            f"target={_FITTING[way]}"
        )
    if target == "local_model" and len(experiment.federation.sites) != 1:
        raise ConfigError(
            f"target=local_model of a run with {len(experiment.federation.sites)} sites; expected "
            "the run of one site; simulate one with aggregation=plain federation.sites=[a] "
            "federation.min_sites=1"
        )
    for site in experiment.federation.sites:
        steps, batch = (
            steps_a_round(experiment.training, size_of(site)),
            _batch(experiment, size_of(site)),
        )
        if row.one_step and steps != 1:
            raise ConfigError(
                f"target={target}, but {site} took {steps} steps a round; expected one; simulate "
                "with training.sync_every_n_batches=1, or set target=received_update"
            )
        if row.one_image and batch != 1:
            raise ConfigError(
                f"target={target}, but the steps of {site} are on {batch} images; expected one; "
                "simulate with training.batch_size=1, or set target=batch"
            )


def updates_of(run_dir: Path, target: str) -> list[tuple[str, int]]:
    """Return what of a run can be attacked, as (site or `sum` or `model`, round), in order.

    Raises
    ------
    ConfigError
        If the run recorded nothing.
    """
    rounds = rounds_of(run_dir)
    if target == "local_model":
        return [(MODEL, rounds[-1])]
    if target == "relayed_model":
        return handed_on(run_dir)
    if target == "secure_sum":
        return [(SUM, r) for r in rounds if path_of(run_dir, r, SUM).is_file()]
    return [(site, number) for number in rounds for site in sites_of_round(run_dir, number)]


def read_seen(
    run_dir: Path,
    name: str,
    server_round: int,
    experiment: Experiment,
    size_of: _SizeOf,
    final: Mapping[str, Tensor],
    *,
    relayed: bool = False,
) -> Seen:
    """Read one update.

    `final` is the run's published model, for `local_model` only. `relayed`: as the next hospital of
    a relay sees it, not its coordinator, who knows every model that was handed on.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    if name == MODEL:
        return _published(run_dir, server_round, experiment, size_of, final)
    found = read_received(run_dir, server_round, name)
    known, sites = (
        known_before(run_dir, name, server_round)
        if relayed
        else (trained_from(run_dir, server_round, name) or MODEL, _sites_in(name, found))
    )
    before = read_received(run_dir, server_round, known).arrays
    base = before if known == MODEL else _whole(run_dir, server_round, before)
    steps = [steps_a_round(experiment.training, size_of(site)) for site in sites]
    taken = sum(steps) if relayed else max(steps)
    label = f"round-{server_round:03d}-{name}"
    return Seen(label, server_round, sites, base, found.change(base), taken)


def _published(
    run_dir: Path,
    last: int,
    experiment: Experiment,
    size_of: _SizeOf,
    final: Mapping[str, Tensor],
) -> Seen:
    """Return what a published model tells beside what it started from."""
    first, sites = rounds_of(run_dir)[0], tuple(experiment.federation.sites)
    base = read_received(run_dir, first, MODEL).arrays
    found = Received(SITE_MODEL, {name: final[name] for name in base}, {})
    steps = max(steps_a_round(experiment.training, size_of(site)) for site in sites)
    label, taken = f"rounds-{first:03d}-{last:03d}-{MODEL}", (last - first + 1) * steps
    return Seen(label, last, sites, base, found.change(base), taken, published=True)


def _whole(run_dir: Path, number: int, trained: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a site's model with the arrays that no site trains."""
    return {**read_received(run_dir, number, MODEL).arrays, **trained}


def gradient_of_change(
    change: Mapping[str, Tensor], names: list[str], experiment: Experiment
) -> tuple[Tensor, ...]:
    """Return the gradient that the attacker takes an update for, in the order of `names`.

    Of one step of SGD at rate eta it is the gradient itself, (w0 - w1) / eta (with momentum to
    scale; weight decay is left in). Of several steps, or of Adam, whose first step is about the
    gradient's sign, it is only the direction: a modelling error of the attack. The rate is the
    configured one; no direction depends on it.
    """
    eta = experiment.training.learning_rate
    return tuple(-change[name].float() / eta for name in names)


def random_gradient(like: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return normal numbers with the norm of each tensor: an update that says nothing."""
    drawn = []
    for tensor in like:
        noise = torch.randn(tensor.shape, generator=generator)
        drawn.append(noise * (tensor.norm() / noise.norm().clamp(min=1e-30)))
    return tuple(drawn)


def _sites_in(name: str, found: Received) -> tuple[str, ...]:
    return tuple(found.metadata[SURVIVORS].split(",")) if name == SUM else (name,)


def _batch(experiment: Experiment, num_examples: int) -> int:
    """Return the images of the largest batch."""
    batches = batches_an_epoch(num_examples, experiment.training.batch_size)
    return -(-num_examples // batches)
