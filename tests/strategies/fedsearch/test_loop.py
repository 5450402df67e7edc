"""A search over sites in memory: who goes on, what it costs, and that it changes no result."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict

from clients.mods.secagg import answer_protocol, secagg_mod
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.search import SearchConfig
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.errors import FederationError, PrimiaError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.provisioning.identities import prepare_secure
from strategies.fedsearch.loop import SearchLoop
from strategies.fedsearch.population import draw_population
from strategies.registry import build_aggregator
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop

NAMES = ["berlin", "london", "munich"]
RATE = "training.learning_rate"
SPACE = {RATE: {"low": 0.01, "high": 0.99}}
# The share of the way to the target 1 that a configuration goes in a round; the first one's 0.1.
RATES = [0.1, 0.05, 0.2, 0.3, 0.6, 0.15, 0.5, 0.4, 0.25]
DIVERGES = 0.99
POPULATION = [{}, *({RATE: rate} for rate in RATES[1:])]


@pytest.fixture
def learner(make_site):
    """A site that goes the configuration's share of the way to 1 and predicts 10 w images right."""

    class Learner(make_site):
        rate = 0.1

        def _train(self, message):
            values = json.loads(message.content["config"].get("search-values", "{}"))
            rate = values.get(RATE, self.rate)
            self.asked.append((message.content["config"].get("search-trial"), rate))
            if rate == DIVERGES:
                return Error(2, "<class 'primia_flwr.errors.DivergenceError'>:<'the loss is nan'>")
            reply = super()._train(message)
            w = message.content["arrays"]["w"].numpy()
            new = w + np.float32(rate) * (np.float32(1.0) - w)
            array = type(message.content["arrays"]["w"])(new)
            reply["arrays"]["w"] = array
            return reply

    def build(name):
        site = Learner(name, right=lambda w: int(10 * w[0] + 0.01))
        site.asked = []
        return site

    return build


@pytest.fixture
def search(tmp_path, learner, make_grid, model):
    """Return a function that runs a search; `secure`: over the real secure aggregator."""

    def run(
        population=POPULATION,
        *,
        folder=tmp_path / "run",
        resume=False,
        secure=False,
        sites=None,
        rounds=9,
        rule="fedavg",
        only=None,
        **settings,
    ):
        federation = FederationConfig(
            rounds=rounds, sites=NAMES, min_sites=3, round_timeout=1, wait_for_sites=0.05
        )
        experiment = Experiment(
            output_dir=str(folder),
            federation=federation,
            strategy=StrategyConfig(name=rule),
            aggregation=AggregationConfig(
                name="secure" if secure else "plain", float_mean=not secure, max_weight=100
            ),
            search=SearchConfig(population=len(population), space=SPACE, **settings),
        )
        folder.mkdir(exist_ok=True)
        if secure:
            experiment = replace(experiment, aggregation=prepare_secure(experiment, folder))
        sites = sites or {11 + i: learner(name) for i, name in enumerate(NAMES)}
        run.sites = sites
        if secure:
            nodes = {n: _Secured(site, experiment, i) for i, (n, site) in enumerate(sites.items())}
        else:
            nodes = sites
        aggregator = build_aggregator(
            experiment, model=model, parameters=["w"], outputs=2, folder=folder, flower_run=1
        )
        grid = RosterGrid(make_grid(nodes), NAMES)
        if only is not None:  # an ordinary run of one configuration
            for site in sites.values():
                site.rate = only
            plain = replace(experiment, search=SearchConfig())
            return RoundLoop(LoopConfig.of(plain), grid, aggregator, folder).run(model)
        loop = SearchLoop(experiment, grid, aggregator, folder, population=population)
        return loop.run(model, resume=resume)

    return run


class _Secured:
    """A site behind the real client mod of secure aggregation."""

    def __init__(self, plain, experiment, index):
        self._plain = plain
        node, config = {"partition-id": index}, {"config": to_yaml(experiment)}
        self._context = Context(1, index, node, RecordDict(), config)

    def answer(self, message):
        try:
            if message.metadata.message_type == "query.secagg":
                return answer_protocol(message, self._context)
            return secagg_mod(message, self._context, self._in_the_clear)
        except PrimiaError as error:
            text = f"<class 'primia_flwr.errors.{type(error).__name__}'>:<'{error}'>"
            return Message(Error(2, text), reply_to=message)

    def _in_the_clear(self, message, _):
        reply = self._plain.answer(message)
        if reply.has_error():  # as clients.handlers says it
            reply = Message(
                RecordDict({"metrics": MetricRecord({"declined": 1})}), reply_to=message
            )
        reply.content["site"] = ConfigRecord({"name": self._plain.name, "outputs": 2})
        return reply


def account(folder):
    return json.loads((folder / "search.json").read_text())


def trained(sites):
    """Return how often the first site was asked to train each configuration."""
    asked = [number for number, _ in sites[11].asked]
    return {number: asked.count(number) for number in sorted(set(asked))}


def test_nine_configurations_by_hand(search, tmp_path):
    chosen = search()
    assert (chosen.number, chosen.values) == (4, {RATE: 0.6})
    # 9 for one round, the 3 best for 3 in all, the best for 9 in all
    assert trained(search.sites) == {n: 9 if n == 4 else 3 if n in (6, 7) else 1 for n in range(9)}
    assert search.sites[11].seen.count("train") == 9 * 1 + 3 * 2 + 1 * 6
    assert search.sites[11].seen.count("evaluate") == 9 + 3 + 1
    assert search.sites[11].seen.count("query.statistics") == 1
    found = account(tmp_path / "run")
    assert found["rungs"] == [
        {"configurations": 9, "rounds": 1},
        {"configurations": 3, "rounds": 3},
        {"configurations": 1, "rounds": 9},
    ]
    # 3 sites with 20 images, one pass a round, 21 rounds
    assert found["image_passes"] == 21 * 3 * 20
    assert [c["image_passes"] for c in found["configurations"]] == [
        60 * trained(search.sites)[n] for n in range(9)
    ]
    assert [c["status"] for c in found["configurations"]].count("out") == 8
    assert found["chosen"] == 4
    # after one round 6 of 10 images are right: 3, 0, 4, 3 in the confusion matrix, at every site
    first = found["configurations"][4]["rungs"][0]
    assert first["mcc"] == pytest.approx((3 * 3 - 0 * 4) / np.sqrt(7 * 3 * 3 * 7))
    assert first["loss"] == pytest.approx(0.4)


def test_the_model_is_that_of_an_ordinary_run_of_the_configuration(search, tmp_path):
    chosen = search()
    alone = search(only=0.6, folder=tmp_path / "alone")
    for kind in ("model", "best"):
        for name, array in getattr(alone, kind).items():
            assert getattr(chosen.state, kind)[name].tobytes() == array.tobytes()
    assert chosen.state.best_round == alone.best_round
    columns = ("round", "train_loss", "val_loss", "val_mcc", "images", "best")
    tables = [
        list(csv.DictReader((tmp_path / folder / "history.csv").open()))
        for folder in ("run", "alone")
    ]
    assert len(tables[0]) == len(tables[1]) == 9
    for one, other in zip(*tables, strict=True):
        assert [one[c] for c in columns] == [other[c] for c in columns]


def test_server_optimisers_keep_the_configurations_apart(search, tmp_path):
    chosen = search(rule="fedadam")
    rate = RATES[chosen.number]
    alone = search(only=rate, rule="fedadam", folder=tmp_path / "alone")
    assert chosen.state.model["w"].tobytes() == alone.model["w"].tobytes()


def test_over_secure_sums_it_chooses_the_same(search, tmp_path):
    chosen = search(secure=True)
    assert chosen.number == 4
    assert account(tmp_path / "run")["image_passes"] == 21 * 3 * 20
    rows = list(csv.DictReader((tmp_path / "run" / "sites.csv").open()))
    assert {key for row in rows for key, value in row.items() if value} == {
        "round",
        "site",
        "status",
    }, "nothing of a single site"


def test_without_halving_as_many_rounds_go_to_fewer_configurations(search, tmp_path):
    population = [{}, {RATE: 0.3}]  # 21 rounds are two trainings of 9
    settings = {"halving": False, "population": 9}
    chosen = _random(search, population, settings)
    assert chosen.number == 1
    assert trained(search.sites) == {0: 9, 1: 9}
    assert account(tmp_path / "run")["method"] == "random search"
    assert account(tmp_path / "run")["rungs"] == [{"configurations": 2, "rounds": 9}]


def _random(search, population, settings):
    class Nine(list):
        def __len__(self):
            return settings["population"]

    return search(Nine(population), halving=settings["halving"])


@pytest.mark.parametrize("secure", [False, True])
def test_a_configuration_that_diverges_is_named_and_the_search_goes_on(search, tmp_path, secure):
    population = [{}, {RATE: DIVERGES}, {RATE: 0.3}]
    chosen = search(population, secure=secure, rounds=3)
    assert chosen.number == 2
    found = account(tmp_path / "run")["configurations"]
    assert [c["status"] for c in found] == ["out", "diverged", "chosen"]
    said = "of 3 sites declined" if secure else "berlin: DivergenceError: the loss is nan"
    assert said in found[1]["reason"]
    assert trained(search.sites)[1] == 1, "a repetition would diverge again"
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    named = [json.loads(line) for line in lines if "configuration_diverged" in line]
    assert [event["configuration"] for event in named] == [1]


def test_where_all_that_go_on_diverge_the_next_best_take_their_place(search, tmp_path):
    population = [{}, {RATE: 0.3}, {RATE: 0.6}]
    sites = {}

    def later(content, message):
        values = json.loads(message.content["config"]["search-values"])
        second = message.content["config"]["server-round"] == 2
        diverges = values == {RATE: 0.6} and second and "arrays" in content
        text = "<class 'primia_flwr.errors.DivergenceError'>:<'the weights became NaN'>"
        return Error(2, text) if diverges else content

    search(population, rounds=3)
    for node, site in search.sites.items():
        site.always = lambda content, message: (
            later(content, message)
            if message.metadata.message_type in ("train", "evaluate")
            else content
        )
        sites[node] = site
    chosen = search(population, rounds=3, sites=sites, folder=tmp_path / "again")
    assert (chosen.number, chosen.state.round) == (1, 3)
    assert [c["status"] for c in account(tmp_path / "again")["configurations"]] == [
        "out",
        "chosen",
        "diverged",
    ]


def test_where_all_diverge_there_is_one_clear_error(search):
    population = [{RATE: DIVERGES}, {RATE: DIVERGES}]
    with pytest.raises(FederationError, match="all 2 configurations of rung 1 of the search"):
        search(population, rounds=2)


@pytest.mark.parametrize(
    ("killed_in", "secure"), [(1, False), (11, False), (20, False), (14, True)]
)
def test_killed_anywhere_it_goes_on_to_the_same_end(search, learner, tmp_path, killed_in, secure):
    def die(content, message):
        raise KeyboardInterrupt

    whole = search(folder=tmp_path / "whole", secure=secure)
    broken = {11 + i: learner(name) for i, name in enumerate(NAMES)}
    broken[12].tricks["train", killed_in] = die
    with pytest.raises(KeyboardInterrupt):
        search(sites=broken, secure=secure)
    resumed = {11 + i: learner(name) for i, name in enumerate(NAMES)}
    again = search(sites=resumed, resume=True, secure=secure)
    assert again.number == whole.number
    assert again.state.best["w"].tobytes() == whole.state.best["w"].tobytes()
    assert account(tmp_path / "run") == account(tmp_path / "whole")
    assert resumed[11].seen.count("train") == 21 - (killed_in - 1)


def test_a_divergence_is_remembered_over_a_resume(search, learner, tmp_path):
    population = [{}, {RATE: DIVERGES}, {RATE: 0.3}]
    whole = search(population, rounds=3)
    again = search(population, rounds=3, resume=True)
    assert search.sites[11].asked == []
    assert again.state.best["w"].tobytes() == whole.state.best["w"].tobytes()
    assert again.number == 2


def test_a_round_with_too_few_updates_is_repeated(search, learner):
    sites = {11 + i: learner(name) for i, name in enumerate(NAMES)}
    sites[12].tricks["train", 3] = lambda content, message: Error(5, "node unavailable")
    search([{}, {RATE: 0.3}, {RATE: 0.2}], rounds=3, sites=sites)
    assert sites[11].asked[2:4] == [(2, 0.2), (2, 0.2)]


def test_all_configurations_take_a_round_over_the_same_sites(search, learner, tmp_path):
    """The difference of two sums of nearly equal configurations would show a single site."""
    search([{}, {RATE: 0.3}, {RATE: 0.2}], rounds=3, secure=True)
    for name in NAMES:
        answered = (tmp_path / "run" / "sites" / name / "answered.jsonl").read_text().splitlines()
        bases = [json.loads(line)["base"] for line in answered]
        # the roster; rounds 1 to 3, and the validations after rounds 1 and 3, each once for all;
        # the first model once for all; later models: 3 after round 1, 1 each after 2 and 3
        assert len(bases) == len(set(bases)) == 1 + 3 + 2 + 1 + 3 + 1 + 1


def test_events_say_which_configuration_and_how_far(search, tmp_path):
    search()
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    rounds = [event for event in events if event["event"] == "round_finished"]
    assert [event["done"] for event in rounds] == list(range(1, 22))
    assert {event["total"] for event in rounds} == {21}
    assert [event["rung"] for event in rounds] == [1] * 9 + [2] * 6 + [3] * 6
    assert [event["configuration"] for event in rounds][:9] == list(range(9))
    assert events[-1]["event"] == "finished"
    assert events[-1]["configuration"] == 4


def test_the_population_follows_from_the_seed_and_begins_with_the_experiments_own():
    experiment = Experiment(
        federation=FederationConfig(rounds=9),
        search=SearchConfig(
            population=9, space={**SPACE, "training.warmup": {"choices": [0.0, 0.5]}}
        ),
    )
    first, again = (draw_population(experiment, 9) for _ in range(2))
    assert first == again
    assert first[0] == {}
    assert len({json.dumps(values) for values in first}) == 9
    for values in first[1:]:
        assert set(values) == {RATE, "training.warmup"}
        assert 0.01 <= values[RATE] <= 0.99
    assert draw_population(replace(experiment, seed=2), 9) != first
