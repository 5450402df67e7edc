"""What a site does in a relay: its share of the batches, its word on where a model came from."""

import pytest
from flwr.app import ConfigRecord

from clients.mods.proportion import in_proportion
from clients.mods.relay import relay_mod
from clients.site.opened import open_site
from primia_flwr.config.load import load_experiment, to_yaml
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import keys
from primia_flwr.messages import relay as wire
from primia_flwr.messages.held import held, values_of
from primia_flwr.models.provenance import arrays_digest
from primia_flwr.secagg.protocol.wire import RelayLineage, encode
from tests.clients.handlers.test_answers import config_text, simulated, train_message
from tests.strategies.aggregators.relay.app_grid import experiment_in
from tests.walks.answering import app

BATCHES = ("training.sync_every_n_batches=4", "strategy.options.proportional=true")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return to_yaml(experiment_in(tmp_path_factory.mktemp("relay"), *BATCHES))


def test_a_site_takes_its_share_of_the_batches(text):
    """4 batches times n_k K / n with K = 3 sites; the message tells n by its label counts."""
    site = open_site(simulated(text))
    own = len(site.data.train)
    for images, expected in ((3 * own, 4), (6 * own, 2), (2 * own, 6), (1000 * own, 1)):
        counts = [float(images - 2), 1.0, 1.0]
        context = in_proportion(train_message(text, **{keys.LABEL_COUNTS: counts}), simulated(text))
        assert open_site(context).experiment.training.sync_every_n_batches == expected
        assert open_site(context).data is site.data


def test_without_counts_there_is_no_share(text):
    message = train_message(text, **{keys.LABEL_COUNTS: [0.0, 0.0, 0.0]})
    with pytest.raises(ProtocolError, match="of 0 images; expected those of all sites"):
        in_proportion(message, simulated(text))


def test_the_share_is_what_is_trained_and_the_reply_has_the_sites_word(text):
    message = train_message(text)
    before = arrays_digest(values_of(message.content.array_records[keys.ARRAYS]))
    message.content[keys.CONFIG][wire.LINEAGE] = encode(RelayLineage({}))
    message.metadata.__dict__["_message_id"] = "m"
    reply = app(message, simulated(text))
    own = len(open_site(simulated(text)).data.train)
    batches = max(1, round(4 * own * 3 / 70))  # the message says 30 + 20 + 20 images
    assert reply.content.metric_records[keys.METRICS][keys.NUM_BATCHES] == batches
    link = reply.content.config_records[wire.LINEAGE][wire.LINK]
    assert (len(link), link[:32].hex()) == (128, before)


@pytest.mark.parametrize("key", [wire.LINEAGE, wire.ANCESTORS, wire.FIRST])
def test_in_a_run_that_is_no_relay_its_keys_are_refused(tmp_path, key):
    plain = config_text(tmp_path, "aggregation=plain")
    message = train_message(plain)
    if key == wire.FIRST:
        message.content[key] = message.content[keys.ARRAYS]
    else:
        message.content[keys.CONFIG][key] = ["ab" * 32]
    with pytest.raises(ProtocolError, match="in a run that is no relay; expected nothing of it"):
        relay_mod(message, simulated(plain), lambda *_: pytest.fail("it was handed on"))


def test_ancestors_that_a_coordinator_writes_are_not_believed(text):
    """The mod puts in their place what the signatures lead to."""
    message, seen = train_message(text, **{wire.ANCESTORS: ["ab" * 32]}), []

    def note(message, context):
        seen.append(message.content.config_records[keys.CONFIG][wire.ANCESTORS])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        relay_mod(message, simulated(text), note)
    assert seen == [[]]


@pytest.mark.parametrize("honest", [True, False])
def test_first_weights_come_along_only_if_the_model_came_of_them(text, honest):
    """What others trained comes with what they began from; another model for it is dropped."""
    message, seen = train_message(text), []
    before = values_of(message.content.array_records[keys.ARRAYS])
    message.content[keys.CONFIG][wire.LINEAGE] = encode(RelayLineage({}))
    message.metadata.__dict__["_message_id"] = "m"
    reply = app(message, simulated(text))
    after = {**before, **values_of(reply.content.array_records[keys.ARRAYS])}
    link = reply.content.config_records[wire.LINEAGE][wire.LINK]
    second = train_message(text)
    second.content[keys.ARRAYS] = held(after)
    second.content[keys.CONFIG][wire.LINEAGE] = encode(RelayLineage({"000000 site-1": link}))
    second.content[wire.FIRST] = held(before if honest else after)

    def note(message, context):
        seen.append(message.content.array_records.get(wire.FIRST))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        relay_mod(second, simulated(text, 1), note)
    assert (seen[0] is not None) is honest
    if honest:
        assert arrays_digest(values_of(seen[0])) == arrays_digest(before)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_message_for_the_other_kind_of_relay_is_refused(tmp_path, text, sealed):
    words = ("aggregation.sealed=true", "data.normalisation.kind=fixed")
    asked = to_yaml(experiment_in(tmp_path, *words)) if sealed else text
    message = train_message(asked)
    if not sealed:
        message.content[wire.RELAY] = ConfigRecord({wire.HOP: b""})
    assert load_experiment(asked).aggregation.sealed is sealed
    with pytest.raises(ProtocolError, match="but the message asks for the opposite"):
        relay_mod(message, simulated(asked), lambda *_: pytest.fail("it was handed on"))
