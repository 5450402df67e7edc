import csv
import json
from contextlib import contextmanager

import numpy as np
import pytest
from flwr.app import Error

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.data import NormalisationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.training import FederationStoppingConfig
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import CheckpointError, FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs import checkpoint as checkpoint_module
from primia_flwr.tasks.classification import TASK
from strategies.registry import build_aggregator
from strategies.rounds import steps
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop
from strategies.rounds.state import normalisation_of

NAMES = ["berlin", "london", "munich"]


@pytest.fixture
def sites(make_site):
    return {
        11: make_site("munich", target=1.0),
        12: make_site("berlin", target=2.0),
        13: make_site("london", target=3.0),
    }


@pytest.fixture
def start(model, tmp_path):
    """Start a run over a fake grid; keywords change the federation, the stopping, the strategy."""

    def run(
        fake,
        *,
        resume=False,
        strategy="fedavg",
        patience=0,
        nodes=None,
        names=NAMES,
        folder=tmp_path,
        **values,
    ):
        federation = FederationConfig(
            **{
                "rounds": 4,
                "sites": names,
                "min_sites": 2,
                "round_timeout": 1,
                "wait_for_sites": 0.05,
                **values,
            }
        )
        experiment = Experiment(
            federation=federation,
            strategy=StrategyConfig(name=strategy),
            aggregation=AggregationConfig(float_mean=True),  # for round numbers
        )
        aggregator = build_aggregator(experiment, model=model, parameters=["w"], outputs=2)
        cfg = LoopConfig(
            task=TASK,
            federation=federation,
            stopping=FederationStoppingConfig(monitor="accuracy", patience=patience),
            normalisation=NormalisationConfig(),
            channels=1,
            config_hash="c0ffee",
        )
        loop = RoundLoop(cfg, RosterGrid(fake, names, nodes), aggregator, folder)
        return loop.run(model, resume=resume)

    return run


def table(tmp_path, name):
    with (tmp_path / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def events(tmp_path, name):
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def statuses(tmp_path, site):
    return [row["status"] for row in table(tmp_path, "sites") if row["site"] == site]


def test_four_rounds_by_hand(start, sites, make_grid, tmp_path):
    state = start(make_grid(sites))
    # Each round goes half the way to the mean target 2: 1, 1.5, 1.75, 1.875
    np.testing.assert_allclose(state.model["w"], 1.875, rtol=1e-6)
    assert (state.round, state.validated, state.stopped) == (4, 4, "rounds")
    # Pixels of the sites: 0, 0, 1, 1 each.
    assert (state.mean, state.std) == ((0.5,), (0.5,))
    assert state.label_counts == [3, 3]
    assert state.sites[0] == {"site": "berlin", "train": 2, "val": 10, "label_counts": [1, 1]}
    history = table(tmp_path, "history")
    assert [row["round"] for row in history] == ["1", "2", "3", "4"]
    assert {row["sites"] for row in history} == {"3"}
    assert {row["failed"] for row in history} == {"0"}
    assert {row["val_accuracy"] for row in history} == {"0.5"}
    assert [row["best"] for row in history] == ["1", "0", "0", "0"]
    assert len(table(tmp_path, "sites")) == 12
    # One aggregator a round, one for the statistics, one for the last model.
    assert sites[11].seen == ["query.statistics", *["train"] * 4, "evaluate"]
    assert [event["round"] for event in events(tmp_path, "round_finished")] == [1, 2, 3, 4]
    assert events(tmp_path, "finished")[0]["stopped"] == "rounds"


def test_the_validation_of_a_round_is_that_of_its_own_model(start, sites, make_grid, tmp_path):
    for site in sites.values():
        site.right = lambda w: int(w[0] * 4)  # 1 -> 4, 1.5 -> 6, 1.75 -> 7, 1.875 -> 7
    state = start(make_grid(sites))
    history = table(tmp_path, "history")
    assert [float(row["val_accuracy"]) for row in history] == [0.4, 0.6, 0.7, 0.7]
    assert [float(row["val_loss"]) for row in history] == [0.6, 0.4, 0.3, 0.3]
    assert state.best_round == 3
    np.testing.assert_allclose(state.best["w"], 1.75, rtol=1e-6)


def test_global_early_stopping_keeps_the_best_model(start, sites, make_grid, tmp_path):
    for site in sites.values():
        site.right = lambda w: 9 if 0.9 < w[0] < 1.1 else 3
    state = start(make_grid(sites), patience=2, rounds=10)
    # Model 1 is the best; models 2 and 3 are worse: known in round 4, whose model is validated.
    assert (state.round, state.validated, state.stopped) == (4, 4, "early-stopping")
    assert state.best_round == 1
    np.testing.assert_allclose(state.best["w"], 1.0)
    assert [row["best"] for row in table(tmp_path, "history")] == ["1", "0", "0", "0"]


@pytest.mark.parametrize(
    "strategy", ["fedavg", "fedadagrad", "fedadam", "fedavgm", "fedyogi", "krum", "fedmedian"]
)
@pytest.mark.parametrize("killed_in", [2, 3, 4])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    strategy, killed_in, start, make_site, make_grid, tmp_path
):
    def hospitals():
        return {
            node: make_site(name, target=0.1 + node, right=lambda w: 9 - int(abs(w[0] * 7)) % 5)
            for node, name in enumerate(NAMES)
        }

    def die(content, message):
        raise KeyboardInterrupt

    asked = {"strategy": strategy, "min_sites": 3 if strategy == "krum" else 2}
    whole = start(make_grid(hospitals()), folder=tmp_path / "whole", **asked)
    broken = hospitals()
    broken[1].tricks["train", killed_in] = die
    with pytest.raises(KeyboardInterrupt):
        start(make_grid(broken), **asked)
    resumed = hospitals()
    after = start(make_grid(resumed), resume=True, **asked)
    assert resumed[0].rounds == list(range(killed_in, 5))
    for name in whole.model:
        assert whole.model[name].tobytes() == after.model[name].tobytes()
        assert whole.best[name].tobytes() == after.best[name].tobytes()
    assert whole.patience == after.patience
    assert whole.validation == after.validation
    best = table(tmp_path, "history")[whole.best_round - 1]
    assert float(best["val_mcc"]) == whole.validation["mcc"]
    assert whole.validation["n"] == sum(whole.validation["counts"]["confusion"])
    assert (whole.mean, whole.std, whole.sites) == (after.mean, after.std, after.sites)
    assert [row["round"] for row in table(tmp_path, "history")] == ["1", "2", "3", "4"]
    assert len(table(tmp_path, "sites")) == 12


def test_a_run_killed_before_its_checkpoint_was_written_repeats_that_round(
    start, make_site, make_grid, tmp_path
):
    def hospitals():
        return {node: make_site(name, target=0.1 + node) for node, name in enumerate(NAMES)}

    def die(content, message):
        raise KeyboardInterrupt

    whole = start(make_grid(hospitals()), folder=tmp_path / "whole")
    broken = hospitals()
    broken[1].tricks["train", 4] = die
    with pytest.raises(KeyboardInterrupt):
        start(make_grid(broken))
    newest = max((tmp_path / "checkpoints").iterdir())
    newest.rename(newest.with_name(f".{newest.name}.draft"))  # as a kill leaves it: half written
    resumed = hospitals()
    after = start(make_grid(resumed), resume=True)
    assert resumed[0].rounds == [3, 4]
    assert whole.model["w"].tobytes() == after.model["w"].tobytes()
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_finished_run_resumes_to_its_result_without_asking_anybody(start, sites, make_grid):
    whole = start(make_grid(sites))
    fake = make_grid({})
    again = start(fake, resume=True)
    assert again.model["w"].tobytes() == whole.model["w"].tobytes()
    assert fake.asked == []


def test_a_resume_without_any_checkpoint_starts_at_round_one(start, sites, make_grid):
    assert start(make_grid(sites), resume=True).round == 4
    assert sites[11].rounds == [1, 2, 3, 4]


def test_only_sites_of_the_roster_are_asked(start, sites, make_grid, make_site, tmp_path):
    stranger = make_site("stranger", target=1000.0)
    state = start(make_grid({**sites, 99: stranger}))
    assert stranger.seen == ["query.statistics"] * stranger.seen.count("query.statistics")
    np.testing.assert_allclose(state.model["w"], 1.875, rtol=1e-6)
    rows = [row for row in table(tmp_path, "sites") if row["site"] == "node 99"]
    assert {row["status"] for row in rows} == {"rejected"}
    assert "expected one of federation.sites" in rows[0]["reason"]


def test_with_node_ids_on_the_roster_strangers_hear_nothing(start, sites, make_grid, make_site):
    stranger, liar = make_site("munich", target=9.0), sites[12]
    nodes = {"munich": 11, "berlin": 12, "london": 13}
    start(make_grid({**sites, 99: stranger}), nodes=nodes)
    assert stranger.seen == []
    assert liar.rounds == [1, 2, 3, 4]


def test_a_key_of_the_roster_under_another_name_is_not_asked(start, sites, make_grid, tmp_path):
    nodes = {"munich": 12, "berlin": 11, "london": 13}
    with pytest.raises(FederationError, match=r"answers as 'berlin'; expected 'munich'"):
        start(make_grid(sites), nodes=nodes)


def test_two_nodes_with_one_name_count_once(start, sites, make_grid, make_site, tmp_path):
    sites[99] = make_site("berlin", target=50.0)
    state = start(make_grid(sites))
    np.testing.assert_allclose(state.model["w"], 1.875, rtol=1e-6)
    assert sites[99].rounds == []
    assert statuses(tmp_path, "node 99") == ["rejected"] * 4


def test_a_restarted_node_takes_over_its_name(start, sites, make_grid, make_site):
    fake = make_grid(sites)
    again = make_site("berlin", target=2.0)

    def restart(content, message):
        fake.sites[99] = again
        return Error(5, "node unavailable")

    sites[12].tricks["train", 2] = restart
    start(fake)
    assert sites[12].rounds == [1, 2]
    assert again.rounds == [3, 4]


def test_a_late_joiner_is_taken_in_at_the_next_round(start, sites, make_grid, tmp_path):
    fake = make_grid(sites)
    fake.offline.add(13)

    def arrive(content, message):
        fake.offline.clear()
        return content

    sites[11].tricks["train", 2] = arrive
    state = start(fake)
    assert sites[13].seen[0] == "query.statistics"
    assert sites[13].rounds == [3, 4]
    assert statuses(tmp_path, "london") == ["failed", "failed", "ok", "ok"]
    assert table(tmp_path, "sites")[1]["reason"] == "offline"
    assert [row["failed"] for row in table(tmp_path, "history")] == ["1", "1", "0", "0"]
    # The statistics stay those of the two that were there at the start.
    assert state.label_counts == [2, 2]
    assert [site["site"] for site in state.sites] == NAMES


def test_a_lost_site_leaves_a_line_and_the_round_goes_on(start, sites, make_grid, tmp_path):
    fake = make_grid(sites)

    def die(content, message):
        fake.offline.add(13)
        return Error(5, "node unavailable")

    sites[13].tricks["train", 2] = die
    state = start(fake)
    assert state.round == 4
    assert statuses(tmp_path, "london") == ["ok", "failed", "failed", "failed"]
    reasons = [row["reason"] for row in table(tmp_path, "sites") if row["site"] == "london"]
    assert reasons == ["", "node unavailable", "offline", "offline"]


def test_a_refusal_reaches_the_history_with_its_reason(start, sites, make_grid, tmp_path):
    refusal = "<class 'primia_flwr.errors.PolicyRefusal'>:<'bundle is not approved here'>"
    sites[12].always = lambda content, message: Error(2, refusal)
    state = start(make_grid(sites), nodes={"munich": 11, "berlin": 12, "london": 13})
    assert state.round == 4
    assert statuses(tmp_path, "berlin") == ["refused"] * 4
    assert table(tmp_path, "sites")[0]["reason"] == "bundle is not approved here"
    assert events(tmp_path, "site_reply")[0]["status"] == "refused"
    assert sites[12].rounds == []


def test_nan_is_left_out_and_the_others_are_averaged(start, sites, make_grid, tmp_path):
    def poison(content, message):
        from flwr.app import Array

        content["arrays"]["w"] = Array(np.full(2, np.nan, dtype=np.float32))
        return content

    sites[13].always = lambda content, message: (
        poison(content, message) if "arrays" in content else content
    )
    state = start(make_grid(sites), rounds=1)
    np.testing.assert_allclose(state.model["w"], (0.5 + 1.0) / 2)
    assert statuses(tmp_path, "london") == ["rejected"]


def test_a_round_with_too_few_updates_is_repeated(start, sites, make_grid, tmp_path):
    for node in (11, 12):
        sites[node].tricks["train", 2] = lambda content, message: Error(2, "hiccup")
    state = start(make_grid(sites), strategy="fedadam")
    assert state.round == 4
    assert sites[11].rounds == [1, 2, 2, 3, 4]
    assert [event["attempt"] for event in events(tmp_path, "round_repeated")] == [1]
    (row,) = [r for r in table(tmp_path, "sites") if (r["round"], r["site"]) == ("2", "berlin")]
    assert (row["status"], row["reason"]) == ("ok", "attempt 1: failed (hiccup)")
    assert len(table(tmp_path, "history")) == 4


def test_a_repeated_round_gives_the_undisturbed_result(
    start, sites, make_site, make_grid, tmp_path
):
    for node in (11, 12):
        sites[node].tricks["train", 2] = lambda content, message: Error(2, "hiccup")
    disturbed = start(make_grid(sites), strategy="fedadam")
    calm = {n: make_site(s.name, target=s.target) for n, s in sites.items()}
    undisturbed = start(make_grid(calm), strategy="fedadam", folder=tmp_path / "calm")
    assert undisturbed.model["w"].tobytes() == disturbed.model["w"].tobytes()


def test_after_three_attempts_the_run_ends_and_can_be_resumed(start, sites, make_grid, make_site):
    for site in sites.values():
        for n in range(2, 2 + steps.MAX_ATTEMPTS):
            site.tricks["train", n] = lambda content, message: Error(2, "out of memory")
    with pytest.raises(FederationError, match="round 2: 0 good updates in each of 3 attempts"):
        start(make_grid(sites))
    assert sites[11].rounds == [1, 2, 2, 2]
    well = {n: make_site(s.name, target=s.target) for n, s in sites.items()}
    state = start(make_grid(well), resume=True)
    assert well[11].rounds == [2, 3, 4]
    np.testing.assert_allclose(state.model["w"], 1.875, rtol=1e-6)


def test_the_run_does_not_start_without_the_minimum(start, sites, make_grid, tmp_path):
    fake = make_grid(sites)
    fake.offline |= {11, 12}
    with pytest.raises(FederationError) as error:
        start(fake)
    assert "1 of at least 2 sites are online" in str(error.value)
    assert "berlin: offline" in str(error.value)
    assert "resume" in str(error.value)
    assert events(tmp_path, "waiting")[0]["online"] == ["london"]


def test_the_run_waits_for_the_minimum(start, sites, make_grid):
    fake, looks = make_grid(sites), []
    fake.offline |= {11, 12, 13}

    def look():
        looks.append(1)
        if len(looks) == 6:
            fake.offline.clear()

    fake.on_look = look
    assert start(fake, wait_for_sites=30).round == 4


def test_a_site_without_statistics_is_asked_again(start, sites, make_grid):
    sites[13].tricks["query", 1] = lambda content, message: None
    sites[13].tricks["query", 2] = lambda content, message: Error(
        2, "<class 'x.DataError'>:<'disk'>"
    )
    start(make_grid(sites))
    assert sites[13].rounds == [2, 3, 4]


def only_verdict(content, message):
    if "arrays" in content:
        del content["arrays"]
    return content


def test_a_site_that_only_evaluates_is_validated_not_averaged(start, sites, make_grid, tmp_path):
    sites[13].always = only_verdict
    state = start(make_grid(sites), rounds=1)
    np.testing.assert_allclose(state.model["w"], 0.75)
    assert statuses(tmp_path, "london") == ["evaluated"]
    assert table(tmp_path, "history")[0]["sites"] == "3"


def test_the_run_ends_when_too_few_sites_still_train(start, sites, make_grid, tmp_path):
    for node in (12, 13):
        for n in (3, 4, 5):
            sites[node].tricks["train", n] = only_verdict
    state = start(make_grid(sites), rounds=10)
    assert (state.round, state.stopped, state.validated) == (2, "sites-stopped", 2)
    assert "evaluate" not in sites[11].seen
    assert len(table(tmp_path, "history")) == 2
    assert table(tmp_path, "history")[1]["val_accuracy"] == "0.5"
    assert start(make_grid({}), resume=True).stopped == "sites-stopped"


def test_fixed_normalisation_is_taken_as_given():
    cfg = LoopConfig(
        FederationConfig(),
        FederationStoppingConfig(),
        NormalisationConfig(kind="fixed", mean=[0.4], std=[0.2]),
        channels=3,
        config_hash="",
        task=TASK,
    )
    fixed = normalisation_of(cfg, PixelSums(0, (), (), (), ()))
    assert (fixed.mean, fixed.std) == ((0.4,) * 3, (0.2,) * 3)


def test_a_full_disk_ends_the_run_with_the_last_checkpoint_intact(
    start, sites, make_grid, make_site, monkeypatch
):
    real, calls = checkpoint_module.atomic_folder, []

    @contextmanager
    def folder(target, **options):
        calls.append(target)
        with real(target, **options) as draft:
            yield draft
            if len(calls) == 3:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "atomic_folder", folder)
    with pytest.raises(CheckpointError, match=r"round 3 .*No space left on device"):
        start(make_grid(sites))
    monkeypatch.setattr(checkpoint_module, "atomic_folder", real)
    well = {n: make_site(s.name, target=s.target) for n, s in sites.items()}
    state = start(make_grid(well), resume=True)
    assert well[11].rounds == [3, 4]
    np.testing.assert_allclose(state.model["w"], 1.875, rtol=1e-6)


@pytest.mark.parametrize(("averaging", "expected"), [(0.0, 1.875), (0.15, 1.8486)])
@pytest.mark.parametrize("killed_in", [None, 3])
def test_a_private_run_ends_in_the_last_model_or_in_the_average(
    sites, make_grid, model, tmp_path, averaging, expected, killed_in
):
    """The models are 1, 1.5, 1.75, 1.875, the initial one 0; the past weighs 0.1, then 0.15.

    0.9; 0.15 x 0.9 + 0.85 x 1.5 = 1.41; 1.699; 1.8486.
    """

    def run(*, resume):
        federation = FederationConfig(rounds=4, sites=NAMES, min_sites=2, round_timeout=1)
        experiment = Experiment(
            federation=federation, aggregation=AggregationConfig(float_mean=True)
        )
        cfg = LoopConfig(
            task=TASK,
            federation=federation,
            stopping=FederationStoppingConfig(),
            normalisation=NormalisationConfig(kind="fixed", mean=[0.5], std=[0.25]),
            channels=1,
            config_hash="c0ffee",
            private=True,
            averaging=averaging,
        )
        aggregator = build_aggregator(experiment, model=model, parameters=["w"], outputs=2)
        grid = RosterGrid(make_grid(sites), NAMES, None)
        return RoundLoop(cfg, grid, aggregator, tmp_path).run(model, resume=resume)

    def die(content, message):
        raise KeyboardInterrupt

    if killed_in:
        sites[11].tricks["train", killed_in] = die
        with pytest.raises(KeyboardInterrupt):
            run(resume=False)
        sites[11].tricks.clear()
    state = run(resume=bool(killed_in))
    np.testing.assert_allclose(state.best["w"], expected, rtol=1e-4)
    np.testing.assert_allclose(state.model["w"], 1.875)
    assert [row["best"] for row in table(tmp_path, "history")] == ["0", "0", "0", "1"]
    assert (state.best_round, state.stopped) == (4, "rounds")
    assert "evaluate" not in sites[11].seen
