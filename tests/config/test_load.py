"""Configuration: composed, checked, written and read back; every mistake one sentence."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.config.load import (
    compose,
    config_hash,
    kept_hash,
    load_experiment,
    parse,
    to_yaml,
)
from primia_flwr.errors import ConfigError

names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


def experiment(*overrides: str) -> Experiment:
    return parse(Experiment, compose("config", overrides))


def test_empty_text_means_the_defaults() -> None:
    assert load_experiment("") == experiment()


def test_an_experiment_overrides_the_defaults() -> None:
    demo, pneumonia = experiment("experiment=demo"), experiment("experiment=pneumonia")
    assert demo.baselines == ["local", "centralised"]
    assert pneumonia.data.layout == "pneumonia"
    assert pneumonia.training.optimizer_state == "keep"
    assert experiment("experiment=demo", "federation.rounds=3").federation.rounds == 3


@settings(max_examples=30)
@given(
    name=names,
    seed=st.integers(0, 2**32 - 1),
    rounds=st.integers(1, 10_000),
    sites=st.lists(names, min_size=2, max_size=9, unique=True),
    rate=st.floats(1e-5, 10, allow_nan=False),
    weighting=st.sampled_from(["images", "batches", "equal"]),
)
def test_what_is_written_is_read_back(
    name: str, seed: int, rounds: int, sites: list[str], rate: float, weighting: str
) -> None:
    before = Experiment(
        name=name,
        seed=seed,
        federation=FederationConfig(rounds=rounds, sites=sites),
        training=TrainingConfig(learning_rate=rate),
        strategy=StrategyConfig(weighting=weighting),
    )
    after = load_experiment(to_yaml(before))
    assert after == before
    assert config_hash(after) == config_hash(before)


@given(st.text(max_size=200))
def test_any_text_is_an_experiment_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(load_experiment(text), Experiment)


def test_the_hash_is_of_what_decides_the_result() -> None:
    one = experiment()
    for same in ({"output_dir": "x"}, {"quiet": True}, {"dry_run": True}, {"resume": "y"}):
        assert config_hash(replace(one, **same)) == config_hash(one)
    other: dict[str, Any]
    for other in ({"seed": 2}, {"name": "z"}, {"training": TrainingConfig(learning_rate=0.1)}):
        assert config_hash(replace(one, **other)) != config_hash(one)


def test_what_is_kept_of_a_run_is_found_again_after_more_rounds() -> None:
    one = experiment()
    more = replace(one, federation=replace(one.federation, rounds=one.federation.rounds + 1))
    assert kept_hash(more) == kept_hash(one)
    assert config_hash(more) != config_hash(one)
    assert kept_hash(replace(one, seed=2)) != kept_hash(one)


def test_where_the_images_lie_does_not_change_the_hash() -> None:
    here, there = experiment("data.root=/a"), experiment("data.root=/b", "data.cache_dir=/c")
    assert config_hash(here) == config_hash(there)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("foo: 1", "unknown key foo"),
        ("data: {foo: 1}", "unknown key data.foo"),
        ("seed: many", "seed"),
        ("- a list", "not a mapping"),
        ("a: [", "not valid YAML"),
        ("name: 'no spaces'", "name='no spaces'"),
        ("federation: {sites: [a, a]}", "different names"),
        ("federation: {min_sites: 9}", "federation.min_sites=9"),
        ("baselines: [centralized]", "did you mean centralised"),
        ("strategy: {name: fedprox}", "training.proximal_mu=0.0"),
        ("strategy: {name: krum, options: {num_malicious: 1}}", "federation.min_sites=5"),
        ("aggregation: {float_mean: true, name: secure}", "aggregation.float_mean=true"),
    ],
)
def test_mistakes_name_the_key(text: str, fragment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(text)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("data: {foo: 1}", "data.foo"), ("seed: x", "seed=x")])
def test_a_mistake_under_a_debugger_is_the_same_sentence(
    text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OC_CAUSE", "1")  # as OmegaConf does by itself when a tracer is on
    with pytest.raises(ConfigError, match=words):
        load_experiment(text)


def test_nothing_is_instantiated_from_a_configuration() -> None:
    with pytest.raises(ConfigError, match="_target_"):
        load_experiment("data: {_target_: os.system}")


def test_a_federation_that_is_not_made_yet_names_the_command() -> None:
    with pytest.raises(ConfigError) as caught:
        experiment("deployment=hospital")
    assert str(caught.value) == (
        "deployment=hospital; expected one of simulation; primia provision makes others, for the "
        "folder in which it runs"
    )
