from dataclasses import replace

import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.search import SearchConfig
from primia_flwr.config.load import compose, config_hash, load_experiment, parse, to_yaml
from primia_flwr.config.search.searched import SEARCHABLE, space_of, with_values
from primia_flwr.errors import ConfigError

RATE = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def experiment(*overrides):
    return parse(Experiment, compose("config", ["search=pneumonia", *overrides]))


def with_space(space, *overrides):
    cfg = compose("config", ["search=none", *overrides])
    cfg.search.population, cfg.search.space = 4, space
    return parse(Experiment, cfg)


def test_the_spaces_of_conf_are_searchable_and_cross_the_network_unchanged():
    asked = experiment()
    assert asked.search.population == 9
    assert set(space_of(asked).names) <= set(SEARCHABLE)
    assert load_experiment(to_yaml(asked)) == asked


def test_values_make_the_ordinary_experiment_and_leave_the_searchs_alone():
    asked = experiment()
    values = {
        "training.betas": [0.8, 0.99],
        "data.augmentation.affine.probability": 0.25,
        "training.class_weights": "balanced",
    }
    found = with_values(asked, values)
    assert found.training.betas == [0.8, 0.99]
    assert found.data.augmentation.affine.probability == 0.25
    assert found.training.class_weights == "balanced"
    assert not found.search.enabled
    assert asked.training.betas == [0.9, 0.999]
    ordinary = parse(
        Experiment,
        compose(
            "config",
            [
                "training.betas=[0.8,0.99]",
                "data.augmentation.affine.probability=0.25",
                "training.class_weights=balanced",
                "aggregation.clip=512",
            ],
        ),
    )
    assert found == ordinary
    assert config_hash(found) == config_hash(ordinary)


def test_a_search_is_another_experiment_and_none_is_the_one_from_before():
    plain = Experiment()
    assert config_hash(plain) == config_hash(replace(plain, search=SearchConfig(eta=5)))
    assert config_hash(plain) != config_hash(
        replace(plain, search=SearchConfig(population=9, space=RATE))
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.name": "vgg16"}, r"model\.name cannot vary inside a run"),
        ({"training.local_epochs": 2}, r"training\.local_epochs cannot vary"),
        ({"training.learning_rate": "fast"}, r"training\.learning_rate='fast'"),
        ({"training.learning_rate": -1.0}, r"training\.learning_rate=-1\.0"),
        ({"training.learning_rate": 1e-7}, r"training\.min_learning_rate=1e-06"),
    ],
)
def test_values_that_cannot_be_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        with_values(Experiment(), values)


@pytest.mark.parametrize(
    ("key", "spec"),
    [
        ("model.name", {"choices": ["resnet18", "vgg16"]}),
        ("data.image_size", {"low": 32, "high": 64}),
        ("federation.rounds", {"low": 2, "high": 4}),
        ("training.local_epochs", {"low": 1, "high": 4}),
        ("training.sync_every_n_batches", {"low": 1, "high": 4}),
        ("training.precision", {"choices": ["fp32", "bf16"]}),
        ("strategy.weighting", {"choices": ["images", "equal"]}),
    ],
)
def test_what_cannot_vary_inside_a_run_is_refused(key, spec):
    with pytest.raises(ConfigError, match=rf"search\.space has {key}, which cannot vary inside"):
        with_space({key: spec})


def test_an_empty_space_is_refused():
    with pytest.raises(ConfigError, match="space is empty"):
        with_space({})


def test_one_configuration_is_no_search():
    with pytest.raises(ConfigError, match=r"search\.population=1; expected 2 or more"):
        SearchConfig(population=1)
    with pytest.raises(ConfigError, match=r"search\.eta=1"):
        SearchConfig(population=4, eta=1)


def test_the_batch_size_varies_only_where_a_round_costs_as_many_images():
    space = {"training.batch_size": {"choices": [16, 32]}}
    assert space_of(with_space(space)).names == ("training.batch_size",)
    with pytest.raises(ConfigError, match=r"training\.batch_size with training\.sync_every_n"):
        with_space(space, "training.sync_every_n_batches=5")


def test_a_claim_of_privacy_is_refused():
    with pytest.raises(ConfigError, match=r"privacy\.mode=dp_sgd with search\.population=4; .*rel"):
        with_space(RATE, "privacy=dp_sgd", "model.norm=group")


@pytest.mark.parametrize("rule", ["krum", "fedmedian", "fedtrimmedavg"])
def test_rules_that_need_single_updates_are_refused(rule):
    with pytest.raises(ConfigError, match=rf"strategy\.name={rule} with search\.population=4"):
        with_space(RATE, f"strategy.name={rule}", "aggregation.name=plain")


def test_a_population_that_the_rounds_do_not_hold_is_refused():
    with pytest.raises(ConfigError, match="makes rungs of"):
        experiment("federation.rounds=3")
