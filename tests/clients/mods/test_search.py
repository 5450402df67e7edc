"""A site trains what the approved experiment's space holds, and refuses everything else."""

import json
from dataclasses import replace

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from clients.mods.search import search_mod, searched_site
from clients.site.opened import open_site
from primia_flwr.errors import PolicyRefusal, PrimiaError, ProtocolError
from primia_flwr.messages import keys
from tests.clients.answering import answer_evaluate, answer_train
from tests.clients.handlers.test_answers import config_text, simulated, train_message

RATE = "training.learning_rate"
SEARCH = (
    "search=none",
    "search.population=4",
    "search.eta=2",
    "aggregation.name=plain",
    f"+search.space={{{RATE}: {{low: 1.0e-4, high: 1.0e-2, log: true}}, "
    "training.batch_size: {choices: [8, 16]}}",
)
GOOD = {RATE: 0.002, "training.batch_size": 8}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return config_text(tmp_path_factory.mktemp("run"), *SEARCH)


@pytest.fixture(scope="module")
def site(text):
    return open_site(simulated(text))


def named(trial=1, values=GOOD):
    written = values if isinstance(values, str) else json.dumps(values)
    return ConfigRecord({keys.TRIAL: trial, keys.VALUES: written})


def test_the_site_takes_on_the_configuration(site):
    varied = searched_site(site, named())
    assert varied.experiment.training.learning_rate == 0.002
    assert varied.experiment.training.batch_size == 8
    assert varied.trial == 1
    assert site.experiment.training.batch_size == 16
    assert varied.data is site.data


def test_no_values_are_the_experiments_own(site):
    own = searched_site(site, named(0, {}))
    assert own.experiment.training == site.experiment.training
    assert not own.experiment.search.enabled


def test_each_configuration_has_a_state_of_its_own(site):
    folders = {
        str(searched_site(site, named(trial, values)).state._folder)
        for trial, values in ((0, {}), (1, GOOD), (2, GOOD))
    }
    assert len(folders) == 3
    assert str(site.state._folder) not in folders


@pytest.mark.parametrize(
    "values",
    [
        {**GOOD, RATE: 0.02},
        {**GOOD, RATE: 0.00009},
        {**GOOD, RATE: "0.002"},
        {**GOOD, RATE: True},
        {**GOOD, "training.batch_size": 12},
        {**GOOD, "training.local_epochs": 1000},
        {**GOOD, "data.root": "/etc"},
        {**GOOD, "aggregation.name": False},
        {RATE: 0.002},
        {"model.weights": "/etc/passwd.pth"},
    ],
)
def test_anything_outside_the_space_is_a_refusal(site, values):
    with pytest.raises(
        PolicyRefusal, match=r"site site-1 refuses configuration 1: .*search\.space"
    ):
        searched_site(site, named(1, values))


@pytest.mark.parametrize(
    ("trial", "values"),
    [
        (4, GOOD),
        (-1, GOOD),
        (1.0, GOOD),
        (True, GOOD),
        (1, "[]"),
        (1, "{"),
        (1, f'{{"{RATE}": 0.002, "{RATE}": 0.003, "training.batch_size": 8}}'),
        (1, f'{{"{RATE}": NaN, "training.batch_size": 8}}'),
        (1, "[" * 5_000),
        (1, " " * 20_000),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(site, trial, values):
    with pytest.raises(ProtocolError):
        searched_site(site, named(trial, values))


@pytest.mark.parametrize("kind", ["train", "evaluate", "train.other"])
def test_a_message_without_a_configuration_is_refused_in_a_search(text, kind):
    message = Message(RecordDict({keys.CONFIG: ConfigRecord()}), 2, kind)
    with pytest.raises(ProtocolError, match="the message names no configuration"):
        search_mod(message, simulated(text), lambda *_: pytest.fail("it was handed through"))


def test_outside_a_search_all_is_handed_through_untouched(tmp_path):
    message, context = train_message(text := config_text(tmp_path)), simulated(text)
    seen = search_mod(message, context, lambda *both: both)
    assert (seen[0] is message, seen[1] is context) == (True, True)


def test_a_message_with_a_configuration_is_refused_outside_a_search(tmp_path):
    text = config_text(tmp_path)
    with pytest.raises(ProtocolError, match=r"search\.population=0, but the message names a"):
        answer_train(train_message(text, **{keys.TRIAL: 0, keys.VALUES: "{}"}), simulated(text))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(site, values):
    try:
        searched_site(site, named(1, values))
    except PrimiaError:
        return
    assert json.loads(values) in ({}, GOOD)


def test_training_uses_the_configuration_and_nothing_else_of_the_message(text):
    def update(values, trial=1):
        config = {keys.TRIAL: trial, keys.VALUES: json.dumps(values)}
        reply = answer_train(train_message(text, **config), simulated(text))
        arrays = reply.content[keys.ARRAYS]
        return b"".join(arrays[name].data for name in sorted(arrays)), reply

    one, reply = update(GOOD)
    assert update(GOOD, trial=2)[0] == one, "the number changes nothing"
    assert update({**GOOD, RATE: 0.003})[0] != one
    batches = reply.content[keys.METRICS][keys.NUM_BATCHES]
    assert batches == -(-reply.content[keys.METRICS][keys.NUM_EXAMPLES] // 8)


def test_the_same_update_as_an_ordinary_run_of_the_configuration(text, site):
    config = {keys.TRIAL: 3, keys.VALUES: json.dumps(GOOD)}
    searched = answer_train(train_message(text, **config), simulated(text)).content[keys.ARRAYS]
    folder = site.folder.parents[1]
    words = ("aggregation=plain", f"{RATE}=0.002", "training.batch_size=8")
    ordinary_text = config_text(folder, *words)
    ordinary = answer_train(train_message(ordinary_text), simulated(ordinary_text))
    for name, array in ordinary.content[keys.ARRAYS].items():
        assert searched[name].data == array.data, name


def test_validation_is_checked_alike(text):
    config = {keys.TRIAL: 1, keys.VALUES: json.dumps({**GOOD, RATE: 1.0})}
    asked = Message(train_message(text, **config).content, 2, "evaluate")
    with pytest.raises(PolicyRefusal):
        answer_evaluate(asked, simulated(text))
    good = {keys.TRIAL: 1, keys.VALUES: json.dumps(GOOD)}
    asked = Message(train_message(text, **good).content, 2, "evaluate")
    reply = answer_evaluate(asked, simulated(text))
    assert reply.content[keys.METRICS][f"{keys.INCOMING}-num-examples"] > 0


def test_a_real_site_keeps_its_own_data_section(site):
    own = replace(site.experiment.data, root="/hospital", layout="folder")
    hospital = replace(site, experiment=replace(site.experiment, data=own))
    varied = searched_site(hospital, named())
    assert (varied.experiment.data.root, varied.experiment.data.layout) == ("/hospital", "folder")
