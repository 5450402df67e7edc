"""The population of a search: the experiment's own configuration, and others drawn at random."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.search.searched import space_of, with_values
from primia_flwr.errors import ConfigError
from primia_flwr.training.device import derive_seed

Values = dict[str, Any]
# A space may hold combinations that no experiment allows, e.g. a last learning rate above the
# first; so often is another one drawn, for each configuration that is wanted.
_DRAWS_EACH = 20


def draw_population(experiment: Experiment, count: int) -> list[Values]:
    """Draw configurations from the experiment's space; the same ones for the same seed.

    Returns
    -------
    list of dict
        `count` different ones, values by key; the first is empty: the experiment's own.

    Raises
    ------
    ConfigError
        If hardly any combination in the space is a valid experiment, or it holds too few.
    """
    population: list[Values] = [{}]
    refused = ""
    for values in _draws(experiment, count * _DRAWS_EACH):
        if len(population) == count:
            break
        try:
            with_values(experiment, values)
        except ConfigError as error:
            refused = str(error)
            continue
        if values not in population:
            population.append(values)
    if len(population) < count:
        raise ConfigError(
            f"search.space gave {len(population) - 1} of the {count - 1} different configurations "
            f"wanted{f' ({refused})' if refused else ''}; expected ranges that fit each other and "
            "hold as many; change search.space, or take a smaller search.population"
        )
    return population


def _draws(experiment: Experiment, most: int) -> Iterator[Values]:
    import optuna  # by the coordinator of a search alone

    space = space_of(experiment)
    seed = derive_seed(experiment.seed, "search") % 2**32
    with _quiet(optuna.logging):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        for _ in range(most):
            trial = study.ask(space.distributions())
            yield space.decode(trial.params)


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
