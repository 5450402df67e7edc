"""Recording is refused where nothing would be recorded: an attack would find an empty run."""

import pytest

from primia_flwr.config.load import compose_experiment
from primia_flwr.errors import ConfigError

RECORDED = "debug.record_received=true"
SEALED = ("strategy=cyclic", "aggregation.sealed=true", "data.normalisation.kind=fixed")


@pytest.mark.parametrize(
    ("words", "what"),
    [(("strategy=ensemble",), "strategy.name=ensemble"), (SEALED, "aggregation.sealed=true")],
)
def test_what_leaves_nothing_to_record_is_refused(words: tuple[str, ...], what: str) -> None:
    compose_experiment(list(words))
    with pytest.raises(ConfigError, match=f"debug.record_received=true with {what}"):
        compose_experiment([*words, RECORDED])


@pytest.mark.parametrize("words", [(), ("strategy=cyclic",), ("aggregation=plain",)])
def test_where_something_comes_it_is_recorded(words: tuple[str, ...]) -> None:
    assert compose_experiment([*words, RECORDED]).debug.record_received
