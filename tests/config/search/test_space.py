from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from primia_flwr.config.search.dimensions import Choices, Interval
from primia_flwr.config.search.space import parse_space
from primia_flwr.errors import ConfigError

FOUR: dict[str, Any] = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.batch_size": {"low": 8, "high": 64, "step": 8},
    "training.betas": {"choices": [[0.9, 0.999], [0.95, 0.999]]},
    "training.class_weights": {"choices": ["none", "balanced"]},
}


def test_each_dimension_keeps_the_type_of_its_key() -> None:
    space = parse_space(FOUR)

    assert space.dimensions["training.learning_rate"] == Interval(1e-4, 1e-2, log=True)
    assert space.dimensions["training.batch_size"] == Interval(8, 64, step=8, integer=True)
    assert space.dimensions["training.betas"] == Choices(([0.9, 0.999], [0.95, 0.999]))
    assert space.names == tuple(FOUR)


def test_distributions_are_those_of_optuna() -> None:
    assert parse_space(FOUR).distributions() == {
        "training.learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "training.batch_size": optuna.distributions.IntDistribution(8, 64, step=8),
        "training.betas": optuna.distributions.CategoricalDistribution(
            ("[0.9, 0.999]", "[0.95, 0.999]")
        ),
        "training.class_weights": optuna.distributions.CategoricalDistribution(
            ("none", "balanced")
        ),
    }


def test_a_trial_of_optuna_decodes_to_values_of_the_space() -> None:
    space = parse_space(FOUR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        values = space.decode(study.ask(space.distributions()).params)
        assert values["training.betas"] in ([0.9, 0.999], [0.95, 0.999])
        assert values["training.batch_size"] in range(8, 65, 8)
        assert isinstance(values["training.batch_size"], int)


def test_nested_keys_and_omegaconf_are_read_alike() -> None:
    nested = OmegaConf.create({"training": {"batch_size": {"low": 8, "high": 64, "step": 8}}})

    assert parse_space(nested) == parse_space({"training.batch_size": FOUR["training.batch_size"]})


def test_whole_numbers_of_a_float_key_become_floats() -> None:
    space = parse_space({"training.weight_decay": {"choices": [0, 0.05]}})

    assert space.dimensions["training.weight_decay"] == Choices((0.0, 0.05))
    space.check({"training.weight_decay": 0})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"training.batch_size": 9}, "in steps of 8"),
        ({"training.batch_size": 72}, "from 8 to 64"),
        ({"training.batch_size": 16.0}, "an integer"),
        ({"training.batch_size": True}, "an integer"),
        ({}, "training.batch_size is missing"),
        ({"training.batch_size": 16, "seed": 1}, "seed is not in the search space"),
    ],
)
def test_check_refuses_what_lies_outside(values: dict[str, Any], said: str) -> None:
    space = parse_space({"training.batch_size": {"low": 8, "high": 64, "step": 8}})

    space.check({"training.batch_size": 64})
    with pytest.raises(ConfigError, match=said):
        space.check(values)


def test_check_refuses_a_list_that_is_no_choice() -> None:
    space = parse_space({"training.betas": FOUR["training.betas"]})

    space.check({"training.betas": (0.9, 0.999)})
    with pytest.raises(ConfigError, match="expected one of"):
        space.check({"training.betas": [0.9, 0.99]})


@pytest.mark.parametrize(
    ("name", "spec", "said"),
    [
        ("training.learning_rate", {"low": 1.0, "high": 1.0}, "expected low below high"),
        ("training.learning_rate", {"low": 2, "high": 1}, "expected low below high"),
        ("training.learning_rate", {"low": 0, "high": 1, "log": True}, "a low above 0"),
        ("training.learning_rate", {"low": 1, "high": 2, "log": True, "step": 1}, "one of them"),
        ("training.learning_rate", {"low": 1, "high": 2, "log": "yes"}, "true or false"),
        ("training.learning_rate", {"low": "1e-4", "high": 1}, "1.0e-4 as a number"),
        ("training.learning_rate", {"low": float("nan"), "high": 1}, "expected a number"),
        ("training.learning_rate", {"low": 0, "high": float("inf")}, "expected a number"),
        ("training.learning_rate", {"low": 0}, "high is missing"),
        ("training.learning_rate", {}, "low is missing"),
        ("training.learning_rate", {"low": 0, "high": 1, "loow": True}, "did you mean low"),
        ("training.learning_rate", {"low": 0, "choices": [1]}, "both choices and low"),
        ("training.batch_size", {"low": 8.5, "high": 64}, "expected an integer"),
        ("training.batch_size", {"low": 8, "high": 64, "step": 5}, "never meets high=64"),
        ("training.batch_size", {"low": 8, "high": 64, "step": 0}, "a step above 0"),
        ("training.betas", {"low": 0, "high": 1}, "is not a number"),
        ("training.betas", {"choices": [["a", 1]]}, "is no value of training.betas"),
        ("training.betas", {"choices": [[0.9, 1], [0.9, 1.0]]}, "twice"),
        ("training.class_weights", {"choices": []}, "at least one value"),
        ("training.class_weights", {"choices": "none"}, "at least one value"),
        ("training.class_weights", {"choices": ["none", "none"]}, "twice"),
        ("training.compile", {"choices": ["maybe"]}, "is no value of training.compile"),
        ("training.lerning_rate", {"low": 0, "high": 1}, "did you mean training.learning_rate"),
        ("training", {"choices": [1]}, "is a section of the experiment"),
        ("training.learning_rate.x", {"low": 0, "high": 1}, "no key of the experiment"),
        ("seed", {"choices": [1, 2]}, "decides what is measured"),
        ("privacy.mode", {"choices": ["none", "dp_sgd"]}, "decides what is measured"),
        ("data.synthetic.severity", {"low": 1, "high": 2}, "decides what is measured"),
    ],
)
def test_a_contradictory_space_is_one_sentence(name: str, spec: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_space({name: spec})
    assert str(caught.value).startswith(f"space.{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({}, "space is empty"),
        ({"training.learning_rate": 1}, "expected {low, high} or {choices}"),
        (
            {
                "training.batch_size": {"low": 8, "high": 64},
                "training": {"batch_size": {"low": 8, "high": 16}},
            },
            "given twice",
        ),
    ],
)
def test_a_space_that_is_none_is_refused(mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_space(mapping)


numbers = st.floats(1e-6, 1e3)
intervals = st.tuples(numbers, numbers, st.booleans()).filter(lambda t: t[0] < t[1])
stepped = st.tuples(st.integers(0, 50), st.integers(1, 9), st.integers(1, 9))
betas = st.lists(
    st.lists(st.floats(0, 0.999), min_size=2, max_size=2).map(tuple),
    min_size=1,
    max_size=4,
    unique=True,
)


@settings(max_examples=50)
@given(interval=intervals, ints=stepped, pairs=betas, index=st.integers(0, 3))
def test_a_space_and_its_points_survive_the_way_there_and_back(
    interval: tuple[float, float, bool],
    ints: tuple[int, int, int],
    pairs: list[tuple[float, float]],
    index: int,
) -> None:
    low, high, log = interval
    first, step, count = ints
    space = parse_space(
        {
            "training.learning_rate": {"low": low, "high": high, "log": log},
            "training.batch_size": {"low": first, "high": first + step * count, "step": step},
            "training.betas": {"choices": [list(pair) for pair in pairs]},
        }
    )
    values = {
        "training.learning_rate": high,
        "training.batch_size": first + step * (index % (count + 1)),
        "training.betas": list(pairs[index % len(pairs)]),
    }

    assert parse_space(space.to_dict()) == space
    assert space.decode(space.encode(values)) == values
    for name, dist in space.distributions().items():
        inner = dist.to_internal_repr(space.encode(values)[name])
        assert dist._contains(inner)


def test_options_of_any_rule_may_vary_in_their_own_type() -> None:
    space = parse_space(
        {
            "strategy.options.beta_1": {"low": 0.5, "high": 0.9},
            "strategy": {"options": {"num_malicious": {"low": 0, "high": 2}}},
            "strategy.options.tau": {"choices": [1, 0.001]},
        }
    )

    assert space.dimensions["strategy.options.beta_1"] == Interval(0.5, 0.9)
    assert space.dimensions["strategy.options.num_malicious"] == Interval(0, 2, integer=True)
    assert space.dimensions["strategy.options.tau"] == Choices((1.0, 0.001))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"strategy.options.beta1": {"low": 0, "high": 1}}, "did you mean strategy.options.beta_1"),
        ({"strategy.options": {"choices": [{}]}}, "strategy.options is no key of the experiment"),
        ({"strategy.options.num_malicious": {"low": 0.5, "high": 2}}, "low=0.5; expected an integ"),
        (
            {"strategy.options.tau": {"choices": ["small"]}},
            '"small" is no value of strategy.option',
        ),
        ({"strategy.options.tau": {"choices": [True]}}, "true is no value of strategy.options.tau"),
    ],
)
def test_options_that_no_rule_has_are_refused(space: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_space(space)
    assert said in str(caught.value)
