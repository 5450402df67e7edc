"""Answers in private runs: charged, kept, sent; nothing else leaves; an old ledger refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from clients.mods import dp_update as private
from clients.mods.secagg_vectors import report_vectors, statistics_vectors
from clients.site.identity import open_member
from primia_flwr.config.load import load_experiment, to_yaml
from primia_flwr.errors import ConfigError, DataError, PrivacyBudgetError, ProtocolError
from primia_flwr.messages import keys
from primia_flwr.messages.ledger_heads import read_heads
from primia_flwr.privacy.accounting.run_plan import Wish
from primia_flwr.privacy.ledger.ledger import Ledger
from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.provisioning.identities import prepare_secure
from tests.clients.answering import answer_evaluate, answer_statistics, answer_train
from tests.clients.handlers.test_answers import asked, config_text, simulated, train_message

PRIVATE = (
    "privacy.repeats=1",
    "model.norm=group",
    "privacy.expected_batch=8",
    "privacy.steps=2",
    "federation.rounds=3",
)


def text_of(folder: Path, *overrides: str, mode: str = "dp_sgd") -> str:
    """Write down a private run as the launcher would."""
    text = config_text(folder, f"privacy={mode}", *PRIVATE, *overrides)
    experiment = load_experiment(text)
    experiment.aggregation = prepare_secure(experiment, folder)
    return to_yaml(experiment)


def arrays_of(reply: Message) -> dict[str, bytes]:
    return {name: array.data for name, array in reply.content[keys.ARRAYS].items()}


def ledger_of(folder: Path) -> Ledger:
    return read_ledger(folder / "sites" / "site-1" / "privacy")


def charges(folder: Path) -> list[int]:
    with ledger_of(folder) as ledger:
        return [charge.instance for charge in ledger.charges()]


def test_an_update_is_charged_for_and_nothing_else_comes_with_it(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    reply = answer_train(train_message(text), simulated(text))
    assert dict(reply.content.metric_records[keys.METRICS]) == {keys.WEIGHT: 1.0}
    assert set(reply.content.config_records[keys.SITE]) == {keys.SITE_NAME, keys.OUTPUTS}
    with ledger_of(tmp_path) as ledger:
        (charge,) = ledger.charges()
        units = ledger.account.versions[charge.version]
        (head,) = read_heads(reply.content[keys.LEDGER][keys.HEADS])
        assert (head.number, head.hash) == (1, charge.hash) == ledger.answers()
    assert (charge.instance, charge.event.steps) == (1, 2)
    # all of the site's patients count, those that other runs hold out for validation included
    data = private.open_site(simulated(text)).data
    assert units == len({*data.train.patients, *data.val.patients})
    assert charge.event.sampling_rate == 8 / units
    assert charge.epsilon < 8


def test_the_layout_has_room_for_the_update_and_a_constant_alone(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    message = train_message(text)
    plain = answer_train(message, simulated(text))
    layout, vectors = report_vectors(open_member(simulated(text)), message, plain)
    assert [number.name for number in layout.numbers] == ["weight"]
    assert vectors[1].tolist() == [1]


def test_the_same_round_again_sends_the_same_bytes_for_free(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    one, two = (answer_train(train_message(text), simulated(text)) for _ in range(2))
    assert arrays_of(one) == arrays_of(two)
    assert charges(tmp_path) == [1]


def test_another_model_in_the_same_round_is_charged_anew(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    first = answer_train(train_message(text), simulated(text))
    message = train_message(text)
    message.content[keys.ARRAYS] = first.content[keys.ARRAYS]
    second = answer_train(message, simulated(text))
    assert arrays_of(first) != arrays_of(second)
    assert charges(tmp_path) == [1, 1]


def test_the_whole_run_fits_its_epsilon_and_no_round_more(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    for number in (1, 2, 3):
        answer_train(train_message(text, number), simulated(text))
    model = answer_train(train_message(text, 3), simulated(text))  # kept: free
    for expected in ([1, 2, 3], [1, 2, 3, 3]):  # one repetition was planned for
        assert charges(tmp_path) == expected
        message = train_message(text, 3)
        message.content[keys.ARRAYS] = model.content[keys.ARRAYS]
        if expected == [1, 2, 3]:
            model = answer_train(message, simulated(text))
    with pytest.raises(PrivacyBudgetError, match="ceiling 8"):
        answer_train(message, simulated(text))
    assert charges(tmp_path) == [1, 2, 3, 3]


def kinds(folder: Path) -> list[str]:
    text = (folder / "sites" / "site-1" / "privacy" / "ledger.jsonl").read_text()
    return [json.loads(line)["kind"] for line in text.splitlines()]


def test_a_run_is_planned_before_its_first_release_and_keeps_its_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(tmp_path)
    answer_train(train_message(text), simulated(text))
    assert kinds(tmp_path) == ["opened", "data", "planned", "charge"]
    monkeypatch.setattr(Wish, "solve", lambda *_, **__: pytest.fail("solved again"))
    answer_train(train_message(text, 2), simulated(text))
    assert kinds(tmp_path) == ["opened", "data", "planned", "charge", "charge"]
    with ledger_of(tmp_path) as ledger:
        (planned,) = ledger.account.runs.plans
        (event,) = planned.plan.events
        assert (event.steps, planned.plan.asked) == (2 * (3 + 1), 8.0)  # 3 rounds and a repetition
        assert {charge.event.noise_multiplier for charge in ledger.charges()} == {
            event.noise_multiplier
        }
        assert planned.left.total() == 2 * 2
        assert planned.plan.epsilon <= 8.0


def test_a_crash_between_plan_and_charge_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(tmp_path)

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(private, "fit_private", crash)
        with pytest.raises(Crash):
            answer_train(train_message(text), simulated(text))
    assert kinds(tmp_path) == ["opened", "data", "planned"]
    with ledger_of(tmp_path) as ledger:
        assert not ledger.most_used().any()
    answer_train(train_message(text), simulated(text))
    assert kinds(tmp_path) == ["opened", "data", "planned", "charge"]


def test_what_cannot_be_afforded_to_its_end_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(tmp_path, "privacy.noise_multiplier=0.3", "privacy.epsilon=0")
    site = private.open_site(simulated(text))
    poor = replace(site, budget=replace(site.budget, ceiling=1.0))
    monkeypatch.setattr(private, "open_site", lambda _: poor)
    monkeypatch.setattr(private, "fit_private", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(PrivacyBudgetError, match="ceiling 1"):
        answer_train(train_message(text), simulated(text))
    assert charges(tmp_path) == []


def test_a_crash_between_training_and_sending_leaves_nothing_uncharged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(tmp_path)
    answer_train(train_message(text), simulated(text))

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    for step in ("store", "charge"):
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, step, crash)
            with pytest.raises(Crash):
                answer_train(train_message(text, 2), simulated(text))
    before = charges(tmp_path)
    reply = answer_train(train_message(text, 2), simulated(text))
    # charged, then crashed before it was kept: paid twice, sent once; never the other way round
    assert (before, charges(tmp_path)) == ([1, 2], [1, 2, 2])
    assert arrays_of(answer_train(train_message(text, 2), simulated(text))) == arrays_of(reply)


def test_a_restored_ledger_is_noticed_by_what_the_others_remember(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    answer_train(train_message(text), simulated(text))
    folder = tmp_path / "sites" / "site-1" / "privacy"
    shutil.copytree(folder, tmp_path / "backup")
    reply = answer_train(train_message(text, 2), simulated(text))
    remembered = reply.content[keys.LEDGER][keys.HEADS]
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    with pytest.raises(DataError, match="a witness has seen answer"):
        answer_train(train_message(text, 2, **{keys.HEADS: remembered}), simulated(text))


@pytest.mark.parametrize("answer", [answer_statistics, answer_evaluate])
def test_a_coordinator_that_asks_for_exact_numbers_gets_none(answer, tmp_path: Path) -> None:
    text = text_of(tmp_path)
    message = asked("evaluate", train_message(text).content)
    with pytest.raises(ProtocolError, match="would leave this site without noise"):
        answer(message, simulated(text))


def test_a_part_of_the_noise_of_the_sum_is_new_every_time(tmp_path: Path) -> None:
    text = text_of(tmp_path, mode="dp_aggregate")
    vectors = []
    for _ in range(2):
        message = train_message(text)
        plain = answer_train(message, simulated(text))
        _, (encoded, numbers) = report_vectors(open_member(simulated(text)), message, plain)
        assert numbers.tolist() == [1]
        vectors.append(encoded.view(np.int32).astype(float))
    assert charges(tmp_path) == [1, 1]
    with ledger_of(tmp_path) as ledger:
        event = ledger.charges()[0].event
    assert (event.kind, event.rounds) == ("skellam_sum", 1)
    # the same update both times, each with its own noise of half the variance (3 sites, 1 knows)
    difference = vectors[0] - vectors[1]
    assert difference.var() == pytest.approx(2 * event.variance / 2, rel=0.05)


def test_a_shared_step_is_drawn_and_noised_anew_every_time(tmp_path: Path) -> None:
    shared = ["privacy.sampling_rate=0.5", "privacy.expected_batch=4", "privacy.steps=1"]
    text = text_of(tmp_path, *shared, mode="dp_sgd_shared")
    site = open_member(simulated(text))
    vectors = []
    for _ in range(2):
        message = train_message(text)
        plain = answer_train(message, simulated(text))
        _, (encoded, numbers) = report_vectors(site, message, plain)
        assert numbers.tolist() == [1]
        vectors.append(encoded.view(np.int32).astype(float))
    assert charges(tmp_path) == [1, 1]
    with ledger_of(tmp_path) as ledger:
        event = ledger.charges()[0].event
    assert (event.kind, event.steps, event.sampling_rate) == ("sampled_skellam_sum", 1, 0.5)
    # noise of half the variance in each (3 sites, 1 knows); gradients are far below it here
    difference = vectors[0] - vectors[1]
    assert difference.var() == pytest.approx(2 * event.variance / 2, rel=0.05)


def test_noisy_statistics_are_charged_for_once(tmp_path: Path) -> None:
    noisy = ("privacy.statistics_noise=6", "data.normalisation.kind=federated")
    text = text_of(tmp_path, *noisy)
    ask = asked("query.statistics", RecordDict({keys.CONFIG: ConfigRecord()}))
    one, two = (answer_statistics(ask, simulated(text)) for _ in range(2))
    metrics = one.content.metric_records[keys.METRICS]
    assert dict(metrics) == dict(two.content.metric_records[keys.METRICS])
    answer_train(train_message(text), simulated(text))
    assert charges(tmp_path) == [0, 1]
    with ledger_of(tmp_path) as ledger:
        statistics, update = ledger.charges()
        units = ledger.account.versions[update.version]
    assert (statistics.event.kind, statistics.event.noise_multiplier) == ("gaussian", 6.0)
    assert metrics["count"] == [units]  # a public number
    assert metrics[keys.NUM_VAL] == 0
    assert not any(metrics["side_counts"])
    data = private.open_site(simulated(text)).data
    mean = float(data.train.joined(data.val).images.double().mean() / 255)
    # noise of 6 sqrt(3) patients on a sum over some twenty: it is noisy, and it is the mean
    assert abs(metrics["total"][0] / units - mean) < 5 * 6 * 1.74 / units
    layout, (numbers,) = statistics_vectors(open_member(simulated(text)), one)
    assert layout.numbers_of([numbers])["count"] == [units]


def test_statistics_and_training_fit_the_epsilon_together(tmp_path: Path) -> None:
    noisy = ("privacy.statistics_noise=2", "data.normalisation.kind=federated")
    text = text_of(tmp_path, *noisy, "privacy.repeats=0")
    ask = asked("query.statistics", RecordDict({keys.CONFIG: ConfigRecord()}))
    answer_statistics(ask, simulated(text))
    for number in (1, 2, 3):
        answer_train(train_message(text, number), simulated(text))
    assert charges(tmp_path) == [0, 1, 2, 3]
    with ledger_of(tmp_path) as ledger:
        assert 7 < ledger.spent(ledger.charges()[-1].version) <= 8
        (planned,) = ledger.account.runs.plans
        assert [event.kind for event in planned.plan.events] == ["gaussian", "sampled_gaussian"]
        assert planned.left.total() == 0


def test_statistics_of_a_noisy_sum_are_a_plan_of_their_own(tmp_path: Path) -> None:
    noisy = ("privacy.statistics_noise=6", "data.normalisation.kind=federated")
    text = text_of(tmp_path, *noisy, mode="dp_aggregate")
    ask = asked("query.statistics", RecordDict({keys.CONFIG: ConfigRecord()}))
    answer_statistics(ask, simulated(text))
    for number in (1, 2, 3):
        answer_train(train_message(text, number), simulated(text))
    with ledger_of(tmp_path) as ledger:
        plans = [planned.plan for planned in ledger.account.runs.plans]
        assert [plan.accountant for plan in plans] == ["pld", "rdp"]
        assert [plan.events[0].kind for plan in plans] == ["gaussian", "skellam_sum"]
        assert plans[1].events[0].rounds == 3 + 1  # a repetition may be needed
        assert ledger.spent(ledger.charges()[-1].version) <= 8


@pytest.mark.parametrize(
    ("claim", "reason"), [({"unit": "image"}, "privacy.unit=patient"), ({"delta": 1e-3}, "0.001")]
)
def test_a_run_that_claims_something_else_than_the_site_counts_is_refused(
    claim: dict, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(tmp_path)
    site = private.open_site(simulated(text))
    other = replace(site, budget=replace(site.budget, **claim))
    monkeypatch.setattr(private, "open_site", lambda _: other)
    with pytest.raises(PrivacyBudgetError, match=reason):
        answer_train(train_message(text), simulated(text))
    assert not (tmp_path / "sites" / "site-1" / "privacy").exists()


def test_no_ledger_begins_with_a_delta_that_is_too_large_for_the_sites_patients(
    tmp_path: Path,
) -> None:
    text = text_of(tmp_path, "privacy.delta=0.5")
    with pytest.raises(ConfigError, match=r"privacy\.delta=0\.5 with .* expected delta < 1/"):
        answer_train(train_message(text), simulated(text))
    assert not (tmp_path / "sites" / "site-1" / "privacy" / "ledger.jsonl").exists()
    text = text_of(tmp_path, "privacy.delta=0.001")
    answer_train(train_message(text), simulated(text))
    assert charges(tmp_path) == [1]


def test_what_was_not_paid_for_leaves_no_state_for_a_later_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(tmp_path, "training.optimizer_state=keep")

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "charge", crash)
        with pytest.raises(Crash):
            answer_train(train_message(text), simulated(text))
    state = private.open_site(simulated(text)).state
    assert not state.load(1).optimizer
    answer_train(train_message(text), simulated(text))
    assert state.load(1).optimizer


def test_a_restored_ledger_answers_no_statistics_either(tmp_path: Path) -> None:
    noisy = ("privacy.statistics_noise=6", "data.normalisation.kind=federated")
    text = text_of(tmp_path, *noisy)

    def ask(heads: str = "[]") -> Message:
        config = ConfigRecord({keys.HEADS: heads})
        return asked("query.statistics", RecordDict({keys.CONFIG: config}))

    remembered = answer_statistics(ask(), simulated(text)).content[keys.LEDGER][keys.HEADS]
    shutil.rmtree(tmp_path / "sites" / "site-1" / "privacy")
    with pytest.raises(DataError, match="a witness has seen answer"):
        answer_statistics(ask(remembered), simulated(text))
