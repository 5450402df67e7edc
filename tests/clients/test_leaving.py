"""What leaves a site in which mode, route by route; what is asked beyond that is refused."""

import pytest
from flwr.app import ConfigRecord, RecordDict

from clients.client_app import app
from clients.leaving import Leaving, leaving
from primia_flwr.config.load import load_experiment
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import keys
from primia_flwr.messages import secure as wire
from tests.clients.handlers.test_answers import asked, config_text, simulated, train_message
from tests.clients.mods.test_dp import text_of

ROUTES = ("query.statistics", "train", "evaluate")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return {
        "plain": config_text(folder, "aggregation=plain"),
        "secure": config_text(folder),
        "private": text_of(folder),
        "search": config_text(folder, "search=demo", "federation.rounds=4"),
    }


def message(text, route):
    content = train_message(text).content if route != "query.statistics" else RecordDict()
    return asked(route, content)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("plain", Leaving(masked=False, noised=False, searched=False)),
        ("secure", Leaving(masked=True, noised=False, searched=False)),
        ("private", Leaving(masked=True, noised=True, searched=False)),
        ("search", Leaving(masked=True, noised=False, searched=True)),
    ],
)
def test_the_table(texts, mode, expected):
    found = leaving(load_experiment(texts[mode]))
    assert found == expected
    assert (found.may_rest, found.says_why) == (mode == "plain",) * 2


@pytest.mark.parametrize("mode", ["secure", "private", "search"])
@pytest.mark.parametrize("route", ROUTES)
def test_nothing_leaves_in_the_clear_where_sums_were_agreed(texts, mode, route):
    with pytest.raises(ProtocolError, match=r"aggregation.name=secure, but the message asks"):
        app(message(texts[mode], route), simulated(texts[mode]))


@pytest.mark.parametrize("route", ROUTES)
def test_masks_are_refused_in_a_plain_run(texts, route):
    masked = message(texts["plain"], route)
    masked.content[wire.SECAGG] = ConfigRecord()
    with pytest.raises(ProtocolError, match=r"aggregation.name=plain, but the message asks"):
        app(masked, simulated(texts["plain"]))


@pytest.mark.parametrize(
    ("route", "records"),
    [
        ("query.statistics", {keys.METRICS, keys.SITE}),
        ("train", {keys.METRICS, keys.SITE, keys.ARRAYS}),
        ("evaluate", {keys.METRICS, keys.SITE}),
    ],
)
def test_what_leaves_in_a_plain_run(texts, route, records):
    reply = app(message(texts["plain"], route), simulated(texts["plain"]))
    assert set(reply.content) == records
    assert set(reply.content[keys.SITE]) == {keys.SITE_NAME, keys.OUTPUTS}


def test_another_route_is_refused(texts):
    with pytest.raises(ValueError, match="No query function registered"):
        app(asked("query.pixels", RecordDict()), simulated(texts["plain"]))
