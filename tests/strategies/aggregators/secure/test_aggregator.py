"""Rounds over secure aggregation: the real aggregator and the real client code, sites in memory."""

import json
import threading
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict

from clients.mods.secagg import answer_protocol, secagg_mod
from clients.site.identity import open_member
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.data import NormalisationConfig
from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.training import FederationStoppingConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.errors import (
    ConfigError,
    DivergenceError,
    FederationError,
    PrimiaError,
    ProtocolError,
)
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.secure import degree_of
from primia_flwr.provisioning.identities import prepare_secure
from primia_flwr.runs.secure_sums import read_sums
from primia_flwr.secagg.protocol.wire import (
    MaskRequest,
    SharesRequest,
    SignRequest,
    UnmaskRequest,
    decode,
    encode,
)
from primia_flwr.tasks.classification import TASK
from strategies.registry import build_aggregator
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop
from strategies.rounds.steps import SITES_STOPPED

NAMES = ["berlin", "london", "munich", "paris", "rome"]
NOT_THERE = "not there"
REQUESTS = {
    "shares": SharesRequest,
    "mask": MaskRequest,
    "sign": SignRequest,
    "unmask": UnmaskRequest,
}


@dataclass
class SecureSite:
    """A fake site behind the real client mod.

    `lost` holds (step, nth time): the site does not answer that message. Steps: hello, keys,
    shares, statistics, train, evaluate, sign, unmask.
    """

    plain: Any
    context: Context
    lost: set[tuple[str, int]] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    tamper: Any = None

    @property
    def name(self) -> str:
        return str(self.plain.name)

    def answer(self, message: Message) -> Message | None:
        step = self._step(message)
        self.seen.append(step)
        lost = (step, self.seen.count(step)) in self.lost
        if self.tamper:
            message = self.tamper(step, message) or message
        try:
            reply = self._answer(message)
        except PrimiaError as error:
            reply = Message(Error(code=0, reason=str(error)), reply_to=message)
        return None if lost else reply

    def _answer(self, message: Message) -> Message:
        if message.metadata.message_type == "query.secagg":
            return answer_protocol(message, self.context)
        return secagg_mod(message, self.context, self._in_the_clear)

    def _in_the_clear(self, message: Message, _: Context) -> Message:
        reply = self.plain.answer(message)
        if reply.has_content():
            reply.content["site"] = ConfigRecord({"name": self.name, "outputs": 2})
        return reply

    @staticmethod
    def _step(message: Message) -> str:
        kind = message.metadata.message_type
        if kind != "query.secagg":
            return kind.removeprefix("query.")
        parts = set(message.content["secagg"])
        for step in ("sign", "unmask", "shares", "keys"):
            if step in parts:
                return step
        return "hello"


@dataclass
class Federation:
    experiment: Experiment
    agreed: Experiment  # what the sites have been told, too
    grid: Any
    model: Any
    folder: Any

    @property
    def sites(self) -> dict[str, SecureSite]:
        return {site.name: site for site in self.grid.sites.values()}

    def run(self, resume: bool = False):
        aggregator = build_aggregator(
            self.agreed,
            model=self.model,
            parameters=["w"],
            outputs=2,
            folder=self.folder,
            flower_run=1,
        )
        cfg = LoopConfig(
            task=TASK,
            federation=self.experiment.federation,
            stopping=FederationStoppingConfig(monitor="accuracy"),
            normalisation=NormalisationConfig(),
            channels=1,
            config_hash="c0ffee",
        )
        names = self.experiment.federation.sites
        self.loop = RoundLoop(cfg, RosterGrid(self.grid, names), aggregator, self.folder)
        return self.loop.run(self.model, resume=resume)

    def forget(self):
        """Have the coordinator forget the run, as one would that wants a second sum."""
        self.folder.joinpath("checkpoints").rename(self.folder / "gone")
        self.folder.joinpath("secure-opened.json").unlink()

    def lose_the_sum_of_round_two(self):
        """Munich drops out; of the four others, who sign and open, two are not heard: too few."""
        self.sites["munich"].lost = {("train", 2)}
        for name in ("berlin", "london"):
            self.sites[name].lost = {("unmask", 3)}  # of the statistics, round 1, round 2

    def rows(self, server_round):
        rows = self.loop._record.history.sites
        return {row.site: row for row in rows if row.round == server_round}


@pytest.fixture
def federation(tmp_path, make_site, make_grid, model):
    def build(count=5, rounds=3, strategy="fedavg", secure=None, names=NAMES, **values):
        names = names[:count]
        settings = {"round_timeout": 1, "wait_for_sites": 0.05, "min_sites": 3, **values}
        timing = FederationConfig(rounds=rounds, sites=names, **settings)
        timing.round_timeout = 0.2  # shorter than the configuration allows: who is lost is lost
        experiment = Experiment(
            output_dir=str(tmp_path),
            federation=timing,
            deployment=DeploymentConfig(bundle="ab" * 32),  # as the launcher fills it in
            strategy=StrategyConfig(name=strategy),
            aggregation=secure or AggregationConfig(name="secure", max_weight=100),
        )
        experiment = replace(experiment, aggregation=prepare_secure(experiment, tmp_path))
        for_sites = replace(experiment, federation=replace(timing, round_timeout=1))
        sites = {}
        for index, name in enumerate(names):
            context = Context(
                run_id=1,
                node_id=index,
                node_config={"partition-id": index},
                state=RecordDict(),
                run_config={"config": to_yaml(for_sites)},
            )
            plain = make_site(name, target=float(index), weight=10.0 * (index + 1), var=1.0 + index)
            sites[11 + index] = SecureSite(plain, context)
        return Federation(experiment, for_sites, make_grid(sites), model, tmp_path)

    return build


def expected(rounds, taking_part):
    """Return w after the rounds: each time half the way to the weighted mean of the targets.

    `taking_part`: for each round, the indices of the sites in the sum.
    """
    w = 0.0
    for sites in taking_part[:rounds]:
        weights = [10.0 * (i + 1) for i in sites]
        target = sum(weight * i for weight, i in zip(weights, sites, strict=True)) / sum(weights)
        w += 0.5 * (target - w)
    return w


ALL = range(5)
ANY_LIST = AggregationConfig(name="secure", max_weight=100, allow_other_survivors=True)
# step = 32 / (2^31 / 5); (5 / 2) step * 100 / 150 for each of three rounds, and float32
TOLERANCE = 3 * 2.5 * 32 / (2**31 / 5) * 100 / 150 + 1e-6


def test_the_weighted_mean_of_all_in_every_round(federation):
    run = federation()
    state = run.run()
    assert state.model["w"] == pytest.approx([expected(3, [ALL] * 3)] * 2, abs=TOLERANCE)
    variance = sum((1 + i) * 10 * (i + 1) for i in ALL) / 150
    assert state.model["bn.running_var"] == pytest.approx([variance], abs=TOLERANCE)
    assert state.validated == 3
    assert [row.status for row in run.rows(2).values()] == ["ok"] * 5
    seen = run.sites["berlin"].seen
    # hello; a short setup; statistics; two messages a round; one instance for the last model
    assert seen == [
        *("hello", "keys", "shares", "statistics", "unmask"),
        *(("train", "unmask") * 3),
        *("evaluate", "unmask"),
    ]


def test_statistics_and_measurements_are_sums(federation):
    run = federation()
    state = run.run()
    # each site has 4 pixels: 0, 0, 1 and its target clipped into [0, 1]: 0, 1, 1, 1, 1
    assert state.mean == pytest.approx([(5 + 4) / 20])
    assert state.label_counts == [5, 5]
    assert state.side_counts == [0, 0, 5, 5, 0, 0, 0]
    assert state.sites == [{"site": name} for name in sorted(NAMES)]
    row = run.loop._record.history.rounds[0]
    # train loss |target| weighted by 10, 20, 30, 40, 50
    assert row.train_loss == pytest.approx((0 * 10 + 20 + 2 * 30 + 3 * 40 + 4 * 50) / 150, abs=1e-5)
    assert (row.sites, row.failed) == (5, 0)
    assert row.validation["accuracy"] == pytest.approx(0.5)


def test_nothing_of_a_single_site_is_written_down(federation):
    run = federation()
    run.run()
    for row in run.rows(1).values():
        values = vars(row)
        shown = {key for key, value in values.items() if value not in (None, "", {})}
        assert shown == {"round", "site", "status"}
    own = list(run.folder.glob("sites/berlin/run-*/own-measurements.jsonl"))
    assert len(own[0].read_text().splitlines()) == 5, "statistics, three rounds, the last model"


def check_books(run):
    """The sites' rows, the history and the secure sums name the same sites for each round."""
    sums = {row.round: row for row in read_sums(run.folder) if row.good and row.kind == "train"}
    assert sorted(sums) == [row.round for row in run.loop._record.history.rounds]
    for row in run.loop._record.history.rounds:
        booked = run.rows(row.round)
        roster = set(run.experiment.federation.sites)
        assert roster <= set(booked)
        assert all(name.startswith("node ") for name in booked.keys() - roster)
        good = sorted(name for name, one in booked.items() if one.good)
        assert good == sorted(sums[row.round].summed)
        assert (row.sites, row.failed) == (len(good), len(roster) - len(good))
        assert all(one.reason for one in booked.values() if not one.good)


@pytest.mark.parametrize(
    ("step", "nth", "any_list"),
    [
        *((step, 2, True) for step in ("keys", "shares", "train", "sign")),
        *(("unmask", nth, True) for nth in (1, 2, 3)),
        *(("unmask", 3, False), ("train", 2, False)),
    ],
)
def test_all_books_name_the_same_sites_whoever_is_lost_when(federation, step, nth, any_list):
    run = federation(secure=ANY_LIST if any_list else None)
    run.sites["munich"].lost = {(step, nth)}
    run.run()
    check_books(run)


def test_a_site_that_is_lost_after_the_sum_was_opened_is_in_its_books(federation):
    run = federation(secure=ANY_LIST)
    run.sites["munich"].lost = {("unmask", 2)}
    run.run()
    row = run.rows(1)["munich"]
    assert row.status == "ok"
    assert row.reason.startswith("in the sum; then late: no answer within")
    assert run.rows(2)["munich"].reason == "not in the sum: it had no keys for it yet"
    check_books(run)


def test_a_site_that_stays_out_is_in_the_books_as_absent(federation):
    run = federation()
    run.sites["munich"].lost = {("statistics", 1), ("statistics", 2)}
    run.run()
    check_books(run)
    assert run.rows(2)["munich"].reason.startswith("not asked: with it, sites would answer lists")


@pytest.mark.parametrize(
    ("step", "nth", "in_the_sum"),
    [
        ("hello", 1, [[0, 1, 3, 4]] * 3),
        ("shares", 1, [ALL] * 3),  # out of the statistics, back in for round 1
        ("train", 1, [[0, 1, 3, 4], ALL, ALL]),  # its keys for round 2 came with no vector
        ("unmask", 2, [ALL, [0, 1, 3, 4], ALL]),  # its shares for round 2 did not come
    ],
)
def test_a_site_that_is_lost_at_any_step(federation, step, nth, in_the_sum):
    """Where the sites answer any lists, the others go on at once."""
    run = federation(secure=ANY_LIST)
    run.sites["munich"].lost = {(step, nth)}
    if step == "hello":
        run.sites["munich"].lost |= {("hello", n) for n in range(2, 99)}
    state = run.run()
    sums = [list(sites) for sites in in_the_sum]
    if step == "train":
        sums[1] = [0, 1, 3, 4]  # it has no keys for round 2 yet, and sends them in it
    assert state.round == 3
    assert state.model["w"] == pytest.approx([expected(3, sums)] * 2, abs=TOLERANCE)
    check_books(run)
    signed = any("sign" in site.seen for site in run.sites.values())
    assert signed == (step == "train"), "signatures only where somebody dropped out of U2"


@pytest.mark.parametrize("step", ["shares", "train", "sign", "unmask"])
def test_by_default_all_wait_for_a_site_that_is_lost(federation, step):
    """Its update would be the difference of two sums, of nearly the same model."""
    run = federation()
    run.sites["munich"].lost = {(step, 1), (step, 3)}
    state = run.run()
    assert state.model["w"] == pytest.approx([expected(3, [ALL] * 3)] * 2, abs=TOLERANCE)
    for site in run.sites:
        answered = (run.folder / f"sites/{site}/answered.jsonl").read_text().splitlines()
        assert {tuple(json.loads(line)["survivors"]) for line in answered} == {tuple(sorted(NAMES))}


def test_by_default_a_site_that_is_not_in_the_first_sum_stays_out(federation):
    run = federation()
    run.sites["munich"].lost = {("statistics", 1), ("statistics", 2)}
    state = run.run()
    four = [0, 1, 3, 4]
    assert state.model["w"] == pytest.approx([expected(3, [four] * 3)] * 2, abs=TOLERANCE)


def test_three_sites_wait_for_the_one_that_dropped_and_go_on(federation):
    run = federation(count=3)
    run.sites["london"].lost = {("train", 2)}
    state = run.run()
    assert state.round == 3
    assert state.model["w"] == pytest.approx([expected(3, [range(3)] * 3)] * 2, abs=TOLERANCE)
    assert run.sites["berlin"].seen.count("train") == 4, "round 2 twice"
    assert "sign" not in run.sites["berlin"].seen
    released = run.sites["berlin"].seen.count("unmask")
    assert released == 1 + 3 + 1, "nothing was released for the round that was given up"


def test_three_sites_end_with_a_reason_where_it_does_not_come_back(federation):
    run = federation(count=3)
    run.sites["london"].lost = {("train", n) for n in range(2, 99)}
    with pytest.raises(FederationError, match=r"round 2: .*london: late.*primia train resume="):
        run.run()
    run.sites["london"].lost = set()
    state = run.run(resume=True)
    assert state.model["w"] == pytest.approx([expected(3, [range(3)] * 3)] * 2, abs=TOLERANCE)


def test_a_resumed_run_may_not_leave_a_site_out_for_the_same_model(federation):
    run = federation(count=4, rounds=1)
    run.run()
    run.forget()
    run.sites["paris"].lost = {(step, n) for step in ("hello", "train") for n in range(2, 99)}
    with pytest.raises(FederationError, match="the difference of two sums shows single"):
        run.run()


def test_a_model_changed_in_its_last_bit_does_not_help_to_leave_a_site_out(federation):
    run = federation(count=4, rounds=1)
    run.run()
    run.forget()
    run.model["w"] = np.nextafter(run.model["w"], np.float32(1))
    run.sites["paris"].lost = {("train", n) for n in range(2, 99)}
    with pytest.raises(FederationError, match="train round 1 is asked for, after round 1 was"):
        run.run()
    answered = (run.folder / "sites/berlin/answered.jsonl").read_text()
    assert '["berlin", "london", "munich"]' not in answered


def test_a_sum_that_was_opened_and_lost_is_repeated_over_the_same_sites(federation):
    run = federation(secure=ANY_LIST)
    run.lose_the_sum_of_round_two()
    state = run.run()
    four = [0, 1, 3, 4]  # in round 3 too: for that munich was not asked for keys in round 2
    sums = [list(ALL), four, four]
    assert state.model["w"] == pytest.approx([expected(3, sums)] * 2, abs=TOLERANCE)
    rows = [row for row in read_sums(run.folder) if row.round == 2 and row.kind == "train"]
    assert [row.good for row in rows] == [False, True]
    assert rows[0].survivors == rows[1].survivors == ["berlin", "london", "paris", "rome"]


def died_after_opening(federation):
    """A run that asked for shares in round 2 and never got enough; all sites are back."""
    run = federation(secure=ANY_LIST)
    run.lose_the_sum_of_round_two()
    for name in ("berlin", "london", "paris", "rome"):
        run.sites[name].lost = {("unmask", n) for n in range(3, 99)}
    with pytest.raises(FederationError, match="round 2: "):
        run.run()
    for site in run.sites.values():
        site.lost = set()
    return run


def test_a_coordinator_that_died_after_opening_asks_the_same_sites_again(federation):
    run = died_after_opening(federation)
    state = run.run(resume=True)
    four = [0, 1, 3, 4]  # in round 3 too: for that munich was not asked for keys in round 2
    sums = [list(ALL), four, four]
    assert state.model["w"] == pytest.approx([expected(3, sums)] * 2, abs=TOLERANCE)


def test_a_sum_that_was_opened_waits_for_each_of_its_sites(federation):
    run = died_after_opening(federation)
    run.sites["rome"].lost = {("hello", n) for n in range(2, 99)}
    with pytest.raises(FederationError, match=r"4 of at least 3 sites .*rome: "):
        run.run(resume=True)


@pytest.mark.parametrize("strategy", ["fedadagrad", "fedadam", "fedavgm", "fedyogi"])
def test_server_optimisers_work_on_the_mean(federation, strategy):
    secure = federation(strategy=strategy).run()
    plain = federation(strategy=strategy)
    plain.experiment = plain.agreed = replace(plain.experiment, aggregation=AggregationConfig())
    for site in plain.sites.values():
        federation_ = replace(plain.experiment.federation, round_timeout=1)
        site.context.run_config["config"] = to_yaml(
            replace(plain.experiment, federation=federation_)
        )
    (plain.folder / "checkpoints").rename(plain.folder / "of-the-secure-run")
    assert plain.run().model["w"] == pytest.approx(secure.model["w"], abs=1e-4)


@pytest.mark.parametrize("strategy", ["bulyan", "fedmedian", "fedtrimmedavg", "krum", "multikrum"])
def test_rules_that_need_single_updates_are_refused(strategy):
    with pytest.raises(ConfigError, match=f"{strategy} needs each site's update, which this"):
        Experiment(
            strategy=StrategyConfig(name=strategy), aggregation=AggregationConfig(name="secure")
        )


@pytest.mark.parametrize("run", ["../../../home/x", "a/b", "..", "ABC", "0" * 31, "0" * 33])
def test_a_runs_name_that_could_lead_out_of_the_sites_folder_is_refused(run):
    with pytest.raises(ConfigError, match=r"aggregation\.run="):
        AggregationConfig(name="secure", run=run)


def test_a_launcher_that_was_killed_while_it_drew_identities_goes_on(federation):
    run = federation(count=3, rounds=1)
    keys = sorted(run.folder.glob("sites/*/identity.key"))
    before = [key.read_bytes() for key in keys]
    (run.folder / "identities.json").unlink()
    keys[2].unlink()
    prepare_secure(run.experiment, run.folder)
    assert [key.read_bytes() for key in keys[:2]] == before[:2]
    assert run.run().round == 1
    (run.folder / "identities.json").write_text('{"berlin": ')
    with pytest.raises(FederationError, match=r"identities\.json cannot be read"):
        run.run()


def test_too_few_sites_for_the_floor_are_refused():
    with pytest.raises(ConfigError, match=r"min_sites=2 with aggregation\.min_survivors=3"):
        Experiment(aggregation=AggregationConfig(name="secure"))


# --- Sites that insist -----------------------------------------------------------------------


def in_the_clear(step, message):
    if step == "train":
        content = {key: value for key, value in message.content.items() if key != "secagg"}
        message.content = RecordDict(content)


def test_a_site_of_a_secure_run_sends_nothing_in_the_clear(federation):
    run = federation(secure=ANY_LIST)
    run.sites["rome"].tamper = in_the_clear
    state = run.run()
    assert state.round == 3
    assert "nothing leaves this site in the clear" in run.rows(1)["rome"].reason


def another_scale(step, message):
    if step == "train":
        message.content["config"]["pixel-mean"] = [0.25]


def test_sites_that_are_told_different_things_give_noise_that_nobody_can_use(federation):
    run = federation(count=3, rounds=1)
    run.sites["munich"].tamper = another_scale
    with pytest.raises(FederationError, match="sites were told different things"):
        run.run()


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param({"max_weight": 45}, id="weight"),  # rome's weight is 50
        pytest.param({"max_weight": 100, "clip": 3.5}, id="update"),  # rome's update is 4
    ],
)
def test_who_declines_is_counted_and_spoils_the_sum(federation, bounds):
    """A sum without it would be over fewer sites, which the coordinator chose by its bounds."""
    run = federation(secure=AggregationConfig(name="secure", **bounds))
    with pytest.raises(DivergenceError, match="1 of 5 sites declined"):
        run.run()
    (row,) = [row for row in read_sums(run.folder) if row.kind == "train"]
    assert row.survivors == sorted(NAMES), "nobody is told apart"
    assert (row.good, row.weight_sum) == (False, 0)
    assert not run.loop._record.history.rounds


def test_sites_that_would_rather_rest_are_counted_in_the_sum(federation):
    run = federation(rounds=5)

    def rests(content, message):
        if message.metadata.message_type == "train":
            content["metrics"]["resting"] = int(message.content["config"]["server-round"] >= 3)
        return content

    for site in run.sites.values():
        site.plain.always = partial(rests)
    state = run.run()
    assert (state.round, state.stopped) == (2, SITES_STOPPED)


# --- A sparse graph --------------------------------------------------------------------------


def test_sites_of_a_sparse_graph_are_shown_their_neighbours_only(federation):
    # 12 sites, of which two may drop out: each masks with 4, and two shares rebuild a secret
    names = [f"site-{i:02d}" for i in range(12)]
    secure = AggregationConfig(name="secure", max_weight=200, degree=4)
    run = federation(count=12, rounds=2, secure=secure, names=names, min_sites=10)
    sent = []

    def listen(step, message):
        parts = message.content.get("secagg", {})
        sent.extend(decode(parts[key], kind) for key, kind in REQUESTS.items() if key in parts)

    run.sites["site-00"].tamper = listen
    run.sites["site-07"].lost = {("train", 1)}
    state = run.run()
    sums = [[i for i in range(12) if i != 7]] * 2  # it sends the keys for round 2 in round 2
    step = 32 / (2**31 / 12)
    assert state.model["w"] == pytest.approx([expected(2, sums)] * 2, abs=2 * 6 * step + 1e-6)
    assert "sign" in run.sites["site-00"].seen
    assert {type(one) for one in sent} == set(REQUESTS.values())
    for one in sent:
        assert one.membership_proof is not None
        assert len(names_in(one)) <= 5, "itself and four others"
    rows = [row for row in read_sums(run.folder) if row.kind == "train"]
    assert [(row.degree, row.threshold, row.sparse) for row in rows] == [(4, 2, True)] * 2
    assert [row.signatures for row in rows] == [11, 0]


def names_in(request):
    if isinstance(request, SharesRequest):
        return request.keys
    return request.members if isinstance(request, MaskRequest) else request.survivors


@pytest.mark.parametrize(
    ("degree", "min_sites", "match"),
    [
        (2, 10, "expected an even number, 4 or more for 12 sites"),
        (5, 10, "expected an even number, 4 or more for 12 sites"),
        (4, 3, "expected 0: no sparse graph is good for 12 sites, of which max_colluding=0"),
    ],
)
def test_a_sparse_graph_that_is_not_good_is_refused(degree, min_sites, match):
    experiment = Experiment(
        federation=FederationConfig(sites=[f"s{i}" for i in range(12)], min_sites=min_sites),
        aggregation=AggregationConfig(name="secure", degree=degree),
    )
    with pytest.raises(ConfigError, match=match):
        degree_of(experiment)


# --- At the site -----------------------------------------------------------------------------


def test_a_refusal_ends_the_instance_for_good_also_in_the_next_process(federation):
    run = federation(count=4, rounds=1)
    forged = []

    def strangers(step, message):
        if step == "unmask" and not forged:
            raw = message.content["secagg"]["unmask"]
            request = replace(decode(raw, UnmaskRequest), survivors=("london", "munich", "rome"))
            forged.append(raw)
            content = RecordDict({"secagg": ConfigRecord({"unmask": encode(request)})})
            with pytest.raises(ProtocolError, match="refuses survivors with rome"):
                answer_protocol(Message(content, 1, "query.secagg"), site.context)

    site = run.sites["berlin"]
    site.tamper = strangers
    assert run.run().round == 1, "three of four shares are enough without it"
    content = RecordDict({"secagg": ConfigRecord({"unmask": forged[0]})})
    with pytest.raises(ProtocolError, match="knows nothing of instance"):
        answer_protocol(Message(content, 1, "query.secagg"), site.context)


def test_two_requests_at_once_are_answered_one_after_the_other(federation):
    context = federation().sites["berlin"].context
    order = []

    def second():
        with open_member(context).exclusive():
            order.append("second")

    with open_member(context).exclusive():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it waits"
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
