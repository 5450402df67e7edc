"""What leaves a site in which mode, route by route; what is asked beyond that is refused."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import client_app
from clients.handlers.train import answer_train
from clients.leaving import PROTOCOL, STATISTICS, leaving
from clients.mods import secagg
from clients.mods.dp import dp_mod
from clients.mods.leaving import leaving_mod
from clients.reply import reply_to
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import load_experiment, to_yaml
from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.messages import keys
from primia_flwr.messages import secure as wire
from primia_flwr.provisioning.identities import identity_keys, prepare_secure
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.secagg.protocol.wire import (
    KeysReply,
    KeysRequest,
    SharesReply,
    decode,
    encode,
    encode_each,
)
from tests.clients.handlers.test_answers import asked, config_text, simulated, train_message
from tests.clients.mods.test_dp import text_of
from tests.walks.answering import app

NOISY = ("privacy.statistics_noise=6", "data.normalisation.kind=federated")
SHARED = ("privacy.steps=1", "privacy.sampling_rate=0.3", "privacy.expected_batch=4")
PRIVATE = ("dp_sgd", "dp_aggregate", "dp_sgd_shared")
SUMS = ("secure", "search", *PRIVATE)
TRAIN, EVALUATE = "train", "evaluate"
ON_DATA = (STATISTICS, TRAIN, EVALUATE)
NAME = {keys.SITE: {keys.SITE_NAME}}
MASKED = {wire.SECAGG: set(), **NAME}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """The configuration of a run in each mode, as the launcher writes it down."""

    def secure(*overrides):
        folder = tmp_path_factory.mktemp("run")
        experiment = load_experiment(config_text(folder, *overrides))
        return to_yaml(replace(experiment, aggregation=prepare_secure(experiment, folder)))

    def private(mode):
        shared = SHARED if mode == "dp_sgd_shared" else ()
        return text_of(tmp_path_factory.mktemp(mode), *NOISY, *shared, mode=mode)

    return {
        "plain": config_text(tmp_path_factory.mktemp("run"), "aggregation=plain"),
        "secure": secure(),
        "search": secure("search=demo", "federation.rounds=4"),
        **{mode: private(mode) for mode in PRIVATE},
    }


def content_of(text, route):
    if route == STATISTICS:
        return RecordDict({keys.CONFIG: ConfigRecord()})
    named = {keys.TRIAL: 0, keys.VALUES: "{}"} if load_experiment(text).search.enabled else {}
    return train_message(text, **named).content


def send(text, route, content, index=0, to=app):
    message = asked(route, content)
    message.metadata.__dict__["_message_id"] = "m"
    return to(message, simulated(text, index))


def protocol(text, part, raw, index):
    content = RecordDict({wire.SECAGG: ConfigRecord({part: raw})})
    reply = send(text, PROTOCOL, content, index)
    assert holds(reply) == {wire.SECAGG: {part}, **NAME}
    return wire.part(reply.content.config_records[wire.SECAGG], part)


def masked_reply(text, route, number, to=app):
    """Take the protocol's steps with all three sites; return what the first one then sends."""
    experiment = load_experiment(text)
    sites = {name: index for index, name in enumerate(experiment.federation.sites)}
    session = wire.session_of(experiment, identity_keys(experiment))
    server = ServerInstance(session, number, wire.floor_of(experiment))
    for name, index in sites.items():
        raw = protocol(text, wire.KEYS, encode(KeysRequest(number)), index)
        server.add_keys(name, decode(raw, KeysReply))
    for name, raw in encode_each(server.announce()).items():
        shares = protocol(text, wire.SHARES, raw, sites[name])
        server.add_shares(name, decode(shares, SharesReply))
    request = server.begin_sum(bytes(32))["site-1"]
    content = content_of(text, route)
    content[wire.SECAGG] = ConfigRecord({wire.MASK: encode(request)})
    return send(text, route, content, to=to)


def holds(reply):
    """Every record of a reply with its keys."""
    return {name: set(record) for name, record in reply.content.items()}


# --- What leaves ---------------------------------------------------------------------------------


def test_every_record_that_leaves_a_plain_run(texts):
    text = texts["plain"]
    site = {keys.SITE: {keys.SITE_NAME, keys.OUTPUTS}}
    replies = {route: send(text, route, content_of(text, route)) for route in ON_DATA}
    for reply in replies.values():
        metrics = reply.content.metric_records[keys.METRICS]
        arrays = holds(reply).pop(keys.ARRAYS, None)
        expected = {keys.METRICS: set(metrics), **site}
        assert holds(reply) == expected | ({keys.ARRAYS: arrays} if arrays else {})
    assert [keys.ARRAYS in reply.content for reply in replies.values()] == [False, True, False]


@pytest.mark.parametrize("mode", SUMS)
def test_every_record_that_leaves_where_sums_were_agreed(texts, mode, monkeypatch):
    laid_out, vectors_of = {}, secagg._encode

    def note(site, message, plain):
        layout, vectors = vectors_of(site, message, plain)
        laid_out[message.metadata.message_type] = [vector.copy() for vector in vectors]
        return layout, vectors

    monkeypatch.setattr(secagg, "_encode", note)
    routes = (STATISTICS, TRAIN) if mode in PRIVATE else ON_DATA
    heads = {keys.LEDGER: {keys.HEADS}} if mode in PRIVATE else {}
    for number, route in enumerate(routes, 1):
        reply = masked_reply(texts[mode], route, number)
        update = {wire.UPDATE} if route == TRAIN else set()
        assert holds(reply) == {**MASKED, wire.MASKED: update | {wire.NUMBERS}, **heads}
        sent = reply.content.array_records[wire.MASKED]
        for name, vector in zip([*sorted(update), wire.NUMBERS], laid_out[route], strict=True):
            words = np.frombuffer(sent[name].data, vector.dtype)
            assert (words != vector).mean() > 0.99, "each word has a mask"


@pytest.mark.parametrize("mode", PRIVATE)
def test_no_handler_is_asked_in_a_private_run(texts, mode):
    def exact(message, context):
        pytest.fail("a handler's numbers have no noise")

    text = texts[mode]
    for route in (STATISTICS, TRAIN):
        reply = dp_mod(asked(route, content_of(text, route)), simulated(text), exact)
        heads = reply.content.config_records[keys.LEDGER][keys.HEADS]
        assert '"site": "site-1"' in heads, "it was charged for"
    for route in (EVALUATE, "query.pixels", "train.pixels"):
        with pytest.raises(ProtocolError, match="would leave this site without noise"):
            dp_mod(asked(route, content_of(text, TRAIN)), simulated(text), exact)


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", SUMS)
@pytest.mark.parametrize("route", ON_DATA)
def test_nothing_leaves_in_the_clear_where_sums_were_agreed(texts, mode, route):
    said = r"aggregation.name=secure, but the message asks"
    if mode in PRIVATE and route == EVALUATE:
        said = "evaluate in a run that answers query.secagg, query.statistics, train; expected"
    with pytest.raises(ProtocolError, match=said):
        send(texts[mode], route, content_of(texts[mode], route))


@pytest.mark.parametrize("route", [*ON_DATA, PROTOCOL])
def test_masks_are_refused_in_a_plain_run(texts, route):
    content = content_of(texts["plain"], route)
    content[wire.SECAGG] = ConfigRecord()
    said = r"aggregation.name=plain, but the message asks|query.secagg in a run that answers"
    with pytest.raises(ProtocolError, match=said):
        send(texts["plain"], route, content)


@pytest.mark.parametrize("mode", ["plain", *SUMS])
def test_a_fourth_route_is_refused(texts, mode):
    with pytest.raises(ValueError, match="No query function registered"):
        send(texts[mode], "query.pixels", RecordDict())
    careless = ClientApp(mods=list(client_app.app._mods))  # as if somebody registered it
    careless.query("pixels")(lambda message, context: pytest.fail("it was handed through"))
    with pytest.raises(ProtocolError, match=r"query\.pixels in a run that answers"):
        careless(asked("query.pixels", RecordDict()), simulated(texts[mode]))


METRICS = {keys.METRICS: MetricRecord({"num-val": 1})}
VECTORS = {wire.SECAGG: ConfigRecord(), wire.MASKED: ArrayRecord()}
PAID_FOR = {**VECTORS, keys.LEDGER: ConfigRecord({keys.HEADS: "[]"})}


@pytest.mark.parametrize(
    ("mode", "route", "records", "odd"),
    [
        ("plain", TRAIN, {**METRICS, "images": ArrayRecord()}, "images"),
        ("plain", EVALUATE, {**METRICS, keys.ARRAYS: ArrayRecord()}, "arrays"),
        ("plain", STATISTICS, {keys.ARRAYS: ArrayRecord()}, "arrays"),
        ("secure", TRAIN, METRICS, "metrics"),
        ("secure", EVALUATE, {**VECTORS, **METRICS}, "metrics"),
        ("secure", STATISTICS, {wire.SECAGG: ConfigRecord()}, "masked"),
        ("secure", TRAIN, {**VECTORS, wire.SECAGG: ConfigRecord({"unmask": b""})}, "secagg.unmask"),
        ("secure", PROTOCOL, {wire.SECAGG: ConfigRecord({"mask": b""})}, "secagg.mask"),
        ("secure", TRAIN, PAID_FOR, "ledger"),
        ("dp_sgd", TRAIN, VECTORS, "ledger"),
        ("dp_aggregate", STATISTICS, VECTORS, "ledger"),
        ("dp_sgd_shared", TRAIN, {**PAID_FOR, **METRICS}, "metrics"),
    ],
)
def test_a_reply_that_is_not_in_the_table_stays_here(texts, mode, route, records, odd):
    text, message = texts[mode], asked(route, RecordDict())
    reply = reply_to(message, "site-1", records)
    with pytest.raises(ProtocolError, match=rf"the reply to {route} differs in {odd};"):
        leaving_mod(message, simulated(text), lambda *_: reply)


@pytest.mark.parametrize("mode", PRIVATE)
def test_without_the_mod_of_noise_nothing_leaves_a_private_run(texts, mode):
    """An update that no ledger was charged for is masked, and stays here."""
    careless = ClientApp(mods=[mod for mod in client_app.app._mods if mod is not dp_mod])
    careless.train()(answer_train)
    with pytest.raises(ProtocolError, match="the reply to train differs in ledger"):
        masked_reply(texts[mode], TRAIN, 9, careless)


def test_a_run_that_is_not_in_the_table_is_answered_nothing():
    experiment = Experiment()
    experiment.aggregation.name, experiment.privacy.mode = "plain", "dp_sgd"
    with pytest.raises(
        ProtocolError, match=r"privacy.mode=dp_sgd; expected one of plain with none"
    ):
        leaving(experiment)
    experiment.aggregation.name = "homomorphic"
    with pytest.raises(ProtocolError, match=r"aggregation.name=homomorphic with"):
        leaving(experiment)


def test_a_configuration_that_cannot_be_read_is_answered_nothing():
    context = Context(1, 2, {"partition-id": 0}, RecordDict(), {"config": "privacy: 7"})
    with pytest.raises(ConfigError, match="the experiment cannot be read"):
        app(asked(TRAIN, RecordDict()), context)


def test_only_a_plain_run_lets_a_site_rest_and_say_why(texts):
    found = {mode: leaving(load_experiment(text)) for mode, text in texts.items()}
    assert [mode for mode, row in found.items() if row.may_rest or row.says_why] == ["plain"]
    assert [mode for mode, row in found.items() if row.noised] == list(PRIVATE)
    assert [mode for mode, row in found.items() if row.own_noise] == ["dp_sgd"]
    assert [mode for mode, row in found.items() if not row.masked] == ["plain"]
    assert not found["dp_aggregate"].progress
    assert "images_per_second" not in found["dp_sgd"].progress
