"""Options of rules: each unknown one, wrong type and value out of range is one sentence."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.load import load_experiment, to_yaml
from primia_flwr.config.rows import RULES
from primia_flwr.errors import ConfigError

KEYS = sorted({key for rule in RULES.values() for key in rule.defaults()})


def plain(name, options):
    """Return the text of an experiment with a rule and its options."""
    return f"strategy: {{name: {name}, options: {options}}}\naggregation: {{name: plain}}\n"


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        # unknown
        ("fedavg", "{beta_1: 0.9}", "unknown key strategy.options.beta_1; expected none for this"),
        ("fedadam", "{beta1: 0.9}", "unknown key strategy.options.beta1; expected server_learning"),
        ("fedadam", "{beta1: 0.9}", "(did you mean beta_1?)"),
        ("krum", "{trim_fraction: 0.2}", "strategy.options.trim_fraction; expected num_malicious"),
        # of another type
        ("fedadam", "{tau: small}", "strategy.options.tau='small'; expected a number, e.g. 0.001"),
        ("fedadam", "{tau: true}", "strategy.options.tau=True; expected a number"),
        ("fedyogi", "{beta_2: [0.9]}", "strategy.options.beta_2=a list; expected a number"),
        ("fedyogi", "{beta_2: null}", "strategy.options.beta_2=None; expected a number"),
        ("krum", "{num_malicious: 1.5}", "num_malicious=1.5; expected a whole number, e.g. 0"),
        ("krum", "{num_malicious: true}", "num_malicious=True; expected a whole number"),
        ("fedavg", "none", "strategy.options"),
        # out of range
        ("fedadam", "{server_learning_rate: 0}", "server_learning_rate=0.0; expected a number abo"),
        ("fedadam", "{beta_1: 1}", "strategy.options.beta_1=1.0; expected a number of at least 0"),
        ("fedyogi", "{tau: -1}", "strategy.options.tau=-1.0; expected a number above 0"),
        ("fedavgm", "{server_momentum: 1}", "strategy.options.server_momentum=1.0; expected a nu"),
        ("fedavgm", "{server_learning_rate: 0}", "server_learning_rate=0.0; expected a number ab"),
        ("fedadagrad", "{tau: 0}", "strategy.options.tau=0.0; expected a number above 0"),
        ("multikrum", "{num_selected: 0}", "num_selected=0; expected a number of at least 1"),
        ("bulyan", "{num_malicious: -1}", "num_malicious=-1; expected a number of at least 0"),
        ("fedtrimmedavg", "{trim_fraction: 0.5}", "trim_fraction=0.5; expected a number of at"),
        ("krum", "{num_malicious: -1}", "num_malicious=-1; expected a number of at least 0"),
        ("qfedavg", "{q: -1}", "strategy.options.q=-1.0; expected a number of at least 0"),
        ("qfedavg", "{curvature: -2}", "strategy.options.curvature=-2.0; expected a number"),
        # that the rest of the experiment does not hold
        ("krum", "{num_malicious: 1}", "krum needs 2*1+3 updates in every round"),
        ("multikrum", "{num_malicious: 1}", "multikrum needs 5 updates in every round"),
        ("multikrum", "{num_malicious: 1, num_selected: 4}", "multikrum needs 7 updates"),
        ("multikrum", "{num_selected: 4}", "multikrum needs 4 updates in every round"),
        ("bulyan", "{num_malicious: 1}", "bulyan needs 4*1+3 updates in every round"),
        # of AdamW's steps, which are no gradients, 1 / learning rate would take next to nothing
        ("qfedavg", "{}", "training.optimizer=adamw with strategy.name=qfedavg and strategy.opt"),
        # Flower's Bulyan makes no model of two, and of two none is nearer to its neighbours
        ("bulyan", "{}", "bulyan needs 4*0+3 updates in every round; set federation.min_sites=3"),
        ("krum", "{}", "krum needs 2*0+3 updates in every round; set federation.min_sites=3"),
        ("multikrum", "{num_selected: 1}", "multikrum needs 3 updates in every round"),
    ],
)
def test_a_mistake_in_the_options_is_one_sentence(name, options, sentence):
    with pytest.raises(ConfigError) as caught:
        load_experiment(plain(name, options))
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_whole_numbers_are_numbers_and_what_is_left_out_has_its_default():
    found = load_experiment(plain("fedadam", "{server_learning_rate: 1}"))
    options = {"server_learning_rate": 1.0, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3}
    assert found.strategy.options == options
    assert type(found.strategy.options["server_learning_rate"]) is float
    assert load_experiment(to_yaml(found)) == found
    assert StrategyConfig("krum").options == {"num_malicious": 0}
    assert StrategyConfig("fedavg").options == {}


@pytest.mark.parametrize("options", ["{q: 0}", "{curvature: 1}"])
def test_a_bound_of_its_own_or_none_goes_with_any_optimiser(options):
    load_experiment(plain("qfedavg", options))


@pytest.mark.parametrize("name", RULES)
def test_each_default_is_a_value_of_its_own_option(name):
    rule = RULES[name]
    assert asdict(rule.read(rule.defaults())) == asdict(rule.read({})) == rule.defaults()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda some: st.lists(some) | st.dictionaries(st.text(max_size=3), some),
    max_leaves=4,
)


@given(
    name=st.sampled_from(list(RULES)),
    options=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=9) | st.integers(), values),
)
def test_any_mapping_is_the_options_of_a_rule_or_one_error(name, options):
    config, said = None, ""
    try:
        config = StrategyConfig(name, options=options)
    except ConfigError as error:
        said = str(error)
    if config is None:
        assert "strategy.options." in said
        assert said.isprintable()
        return
    defaults = RULES[name].defaults()
    assert config.options == defaults | options
    assert {key: type(one) for key, one in config.options.items()} == {
        key: type(one) for key, one in defaults.items()
    }
    assert config.rule.read(config.options) == config.rule.read(options)


@given(st.sampled_from(KEYS), st.integers(2**64, 10**400))
def test_numbers_without_end_are_refused_too(key, value):
    for name in RULES:
        with pytest.raises(ConfigError, match=rf"strategy\.options\.{key}"):
            StrategyConfig(name, options={key: value})
