"""Planned runs in a ledger: written once, paid at the first charge, for one version, verified."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from primia_flwr.errors import DataError, PrivacyBudgetError
from primia_flwr.privacy.accounting.events import Gaussian, SampledGaussian
from primia_flwr.privacy.accounting.filter import Spent
from primia_flwr.privacy.accounting.run_plan import RunPlan, Wish
from primia_flwr.privacy.ledger.chain import CHAIN, Entry
from primia_flwr.privacy.ledger.file import HEAD, LEDGER
from primia_flwr.privacy.ledger.ledger import Ledger
from primia_flwr.privacy.ledger.statement import statement
from primia_flwr.privacy.ledger.view import read_ledger
from tests.privacy.ledgers import DELTA, PATIENTS, charge, open_ledger

ROUNDS, STEPS = 6, 10
WHOLE = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=ROUNDS * STEPS)
OLD = Path(__file__).parent / "ledger_of_format_1.jsonl"


def plan(ledger: Ledger, version: str, *, run: str = "run-1", epsilon: float = 3.0) -> RunPlan:
    return ledger.plan(version, run=run, wish=Wish((WHOLE,), epsilon))


def one_round(found: RunPlan, steps: int = STEPS) -> SampledGaussian:
    (event,) = found.events
    return replace(event, steps=steps)


def rounds(ledger: Ledger, version: str, found: RunPlan, *numbers: int, run: str = "run-1") -> None:
    for number in numbers:
        charge(ledger, version, run=run, instance=number, event=one_round(found))


def test_a_run_uses_the_ceiling_up_as_a_whole_and_no_step_more(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version)
        rounds(ledger, version, found, *range(1, ROUNDS + 1))
        spent = ledger.account.most_used(ledger._grouped())
        chosen = ledger.account.constants.filter
        assert ledger.spent(version) == found.epsilon == chosen.epsilon_of_runs(spent) <= 3.0
        assert chosen.epsilon_of_rdp(spent) > 3.3, "the Rényi criteria alone would have refused it"
        before = (tmp_path / LEDGER).read_bytes()
        for steps in (1, STEPS):
            with pytest.raises(PrivacyBudgetError, match="ceiling 3"):
                ledger.cover(version, run="run-1", event=one_round(found, steps))
            with pytest.raises(PrivacyBudgetError, match="ceiling 3"):
                charge(ledger, version, instance=9, event=one_round(found, steps))
        assert (tmp_path / LEDGER).read_bytes() == before


def test_a_plan_is_solved_for_once_and_read_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        first = plan(ledger, version)
        assert ledger.spent(version) == 0.0, "a plan without a charge costs nothing"
    monkeypatch.setattr(Wish, "solve", lambda *_, **__: pytest.fail("solved again"))
    with open_ledger(tmp_path) as ledger:
        assert plan(ledger, version) == first
        rounds(ledger, version, first, 1)
        ledger.cover(version, run="run-1", event=one_round(first))
        assert plan(ledger, version) == first
        assert len(ledger.account.runs.plans) == 1


def test_an_early_stop_leaves_the_smaller_of_both_counts(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version)
        rounds(ledger, version, found, 1, 2)
        chosen = ledger.account.constants.filter
        by_rdp = chosen.rdp.epsilon(one_round(found, 2 * STEPS).rdp(chosen.orders))
        assert ledger.spent(version) == pytest.approx(by_rdp)
        assert by_rdp < found.epsilon
        # what is left is for another run, by the Rényi criteria
        other = Gaussian(noise_multiplier=10.0)
        ledger.plan(version, run="run-2", wish=Wish((other,)))
        charge(ledger, version, run="run-2", event=other)


def test_interleaved_runs_add_up_and_each_goes_to_its_end(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        plans = {run: plan(ledger, version, run=run, epsilon=1.5) for run in ("a", "b")}
        for number in range(1, ROUNDS + 1):
            for run, found in plans.items():
                rounds(ledger, version, found, number, run=run)
        spent = ledger.most_used()
        total = sum(found.epsilon for found in plans.values())
        assert spent[0] == total <= 3.0
        assert spent[1] == sum(found.delta for found in plans.values()) < 0.75 * DELTA
        assert ledger.spent(version) <= total
        with pytest.raises(PrivacyBudgetError):
            plan(ledger, version, run="c", epsilon=1.5)


def test_of_two_runs_that_do_not_fit_together_the_first_to_charge_goes_on(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        late, early = (plan(ledger, version, run=run) for run in ("late", "early"))
        rounds(ledger, version, early, *range(1, ROUNDS), run="early")
        before = (tmp_path / LEDGER).read_bytes()
        with pytest.raises(PrivacyBudgetError):
            rounds(ledger, version, late, 1, run="late")
        assert (tmp_path / LEDGER).read_bytes() == before
        rounds(ledger, version, early, ROUNDS, run="early")
        assert ledger.spent(version) == early.epsilon


def test_a_run_that_began_is_not_stopped_by_another(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version)
        rounds(ledger, version, found, *range(1, ROUNDS))
        stranger = Gaussian(noise_multiplier=30.0)
        with pytest.raises(PrivacyBudgetError):
            ledger.plan(version, run="run-2", wish=Wish((stranger,)))
        with pytest.raises(PrivacyBudgetError):
            charge(ledger, version, run="run-2", event=stranger)
        rounds(ledger, version, found, ROUNDS)


def test_a_repetition_beyond_the_plan_is_a_plan_of_its_own(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version, epsilon=1.0)
        rounds(ledger, version, found, *range(1, ROUNDS + 1))
        extra = one_round(found)
        ledger.cover(version, run="run-1", event=extra)
        own = ledger.account.runs.plans[-1].plan
        assert (own.events, own.asked) == ((extra,), 0.0)
        charge(ledger, version, instance=ROUNDS, event=extra)
        assert ledger.most_used()[0] == found.epsilon + own.epsilon
        assert plan(ledger, version, epsilon=1.0) == found, "the run's own plan is found again"


def test_what_no_plan_covers_is_counted_by_the_renyi_criteria_alone(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version, epsilon=1.0)
        rounds(ledger, version, found, 1)
        foreign = replace(one_round(found), noise_multiplier=3.0)
        charge(ledger, version, instance=2, event=foreign)
        spent, chosen = ledger.most_used(), ledger.account.constants.filter
        assert math.isinf(spent[0])
        both = one_round(found).rdp(chosen.orders) + foreign.rdp(chosen.orders)
        assert ledger.spent(version) == pytest.approx(chosen.rdp.epsilon(both))


def test_a_plan_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    with open_ledger(tmp_path, ceiling=1.0) as ledger:
        version = ledger.register(PATIENTS)
        with pytest.raises(PrivacyBudgetError, match="ceiling 1"):
            ledger.plan(version, run="r", wish=Wish((WHOLE,)))
        assert ledger.account.runs.plans == []
        assert ledger.head().seq == 2


def test_a_plan_binds_its_run_to_the_version(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        found = plan(ledger, ledger.register(PATIENTS))
        grown = ledger.register([*PATIENTS, "dan"])
        with pytest.raises(DataError, match="the data changed since run run-1 began"):
            plan(ledger, grown)
        with pytest.raises(DataError, match="the data changed since run run-1 began"):
            charge(ledger, grown, event=one_round(found))
        plan(ledger, grown, run="run-2")


def most_used_of(ledger: Ledger, version: str) -> Spent:
    """Return the spending of the unit of a version that has spent most."""
    inside = [group for group in ledger._grouped() if version in dict(group)]
    return ledger.account.most_used(dict.fromkeys(inside, 1))


def test_patients_pay_for_the_plans_of_their_versions(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        one, both = ledger.register(["anna"]), ledger.register(["anna", "ben"])
        plans = [plan(ledger, one, run="a", epsilon=1.0), plan(ledger, both, run="b", epsilon=2.0)]
        for version, run, found in ((one, "a", plans[0]), (both, "b", plans[1])):
            rounds(ledger, version, found, *range(1, ROUNDS + 1), run=run)
        assert ledger.most_used()[0] == plans[0].epsilon + plans[1].epsilon
        ben = most_used_of(ledger, ledger.register(["ben"]))
        assert ben[0] == plans[1].epsilon


def test_somebody_who_is_two_units_is_not_covered_by_a_plan_for_one(tmp_path: Path) -> None:
    """Anna and ben of the first version turn out to be one person: plans hold for one unit."""
    images = ["a" * 64, "b" * 64]
    with open_ledger(tmp_path) as ledger:
        two = ledger.register(["anna", "ben"], images)
        found = plan(ledger, two, epsilon=1.0)
        rounds(ledger, two, found, 1)
        assert math.isfinite(ledger.most_used()[0])
        one = ledger.register(["anna", "anna"], images)
        spent = most_used_of(ledger, one)
        assert math.isinf(spent[0])


def test_a_ceiling_that_was_lowered_stops_a_plan(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version)
        rounds(ledger, version, found, 1, 2, 3)
    with open_ledger(tmp_path, ceiling=1.5) as ledger, pytest.raises(PrivacyBudgetError):
        rounds(ledger, version, found, 4)
    with open_ledger(tmp_path, ceiling=3.0) as ledger:
        rounds(ledger, version, found, 4, 5, 6)


def test_the_highest_ceiling_leaves_later_runs_the_renyi_criteria(tmp_path: Path) -> None:
    """The share of the first ceiling is used up; a raised one finds room in the others."""
    with open_ledger(tmp_path, ceiling=1.0) as ledger:
        version = ledger.register(PATIENTS)
        rounds(ledger, version, plan(ledger, version, epsilon=1.0), *range(1, ROUNDS + 1))
    with open_ledger(tmp_path, ceiling=3.0) as ledger:
        found = plan(ledger, version, run="run-2", epsilon=1.0)
        rounds(ledger, version, found, *range(1, ROUNDS + 1), run="run-2")
        assert ledger.spent(version) <= 3.0


def test_without_a_ceiling_all_is_planned_and_counted(tmp_path: Path) -> None:
    with open_ledger(tmp_path, ceiling=None) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version, epsilon=4.0)
        assert found.delta == pytest.approx(0.75 * DELTA / 2)
        rounds(ledger, version, found, *range(1, ROUNDS + 1))
        assert ledger.spent(version) == found.epsilon


def test_a_crash_between_plan_and_charge_costs_nothing(tmp_path: Path) -> None:
    """Killed at its first charge; the next process finds plan and noise, and nothing spent."""
    child = os.fork()
    if child == 0:
        try:
            with open_ledger(tmp_path, wait=5.0) as ledger:
                found = plan(ledger, ledger.register(PATIENTS))
                (tmp_path.parent / "noise").write_text(repr(one_round(found).noise_multiplier))
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        assert ledger.spent(version) == 0.0
        found = plan(ledger, version)
        noise = (tmp_path.parent / "noise").read_text()
        assert repr(one_round(found).noise_multiplier) == noise
        rounds(ledger, version, found, *range(1, ROUNDS + 1))


def test_a_plan_whose_line_was_torn_is_solved_for_again(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
    with (tmp_path / LEDGER).open("ab") as stream:
        stream.write(b'{"body":{"accountant":"pld","asked":3.0,')
    with open_ledger(tmp_path) as ledger:
        assert ledger.account.runs.plans == []
        plan(ledger, version)


def rewritten(folder: Path, kind: str = "planned", **change: object) -> None:
    """Change the entries of a kind and make all else fit, as somebody with the folder could."""
    for path in folder.rglob("*.newest"):
        path.unlink()
    entries: list[Entry] = []
    for text in (folder / LEDGER).read_bytes().splitlines():
        old = json.loads(text)
        if old["kind"] == kind:
            old["body"] |= change
        previous = entries[-1].hash if entries else "0" * 64
        given = (old[name] for name in ("time", "nonce", "kind", "body"))
        entries.append(CHAIN.entry(len(entries) + 1, previous, *given))
    (folder / LEDGER).write_bytes(b"".join(map(CHAIN.line, entries)))
    head = {"hash": entries[-1].hash, "seq": len(entries)}
    (folder / HEAD).write_text(json.dumps(head, sort_keys=True) + "\n")


def test_verify_prices_every_plan_anew(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version)
        ledger.verify_plans()
    rewritten(tmp_path, epsilon=found.epsilon / 10)
    with read_ledger(tmp_path) as ledger:
        assert ledger.account.runs.plans[0].plan.epsilon == found.epsilon / 10
        with pytest.raises(DataError, match=r"the plan of run run-1 has epsilon 0\.29.*expected 2"):
            ledger.verify_plans()
    rewritten(tmp_path, epsilon=found.epsilon)
    with read_ledger(tmp_path) as ledger:
        ledger.verify_plans()


@pytest.mark.parametrize(
    "change", [{"delta": 1e-3}, {"epsilon": 0.0}, {"events": []}, {"version": "0" * 64}]
)
def test_a_plan_that_no_ledger_of_this_delta_writes_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    with open_ledger(tmp_path) as ledger:
        plan(ledger, ledger.register(PATIENTS))
    rewritten(tmp_path, **change)
    with pytest.raises(DataError, match="is not what this version writes"):
        open_ledger(tmp_path)


@pytest.mark.parametrize("kind", ["data", "planned", "charge"])
@pytest.mark.parametrize("version", [[], {}, None, 1])
def test_a_version_that_is_no_text_is_refused(tmp_path: Path, kind: str, version: object) -> None:
    with open_ledger(tmp_path) as ledger:
        known = ledger.register(PATIENTS)
        rounds(ledger, known, plan(ledger, known), 1)
    rewritten(tmp_path, kind, version=version)
    with pytest.raises(DataError):
        open_ledger(tmp_path)


def test_the_statement_shows_plans_and_both_counts(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        found = plan(ledger, version)
        rounds(ledger, version, found, 1, 2)
        shown = statement(ledger)
        (row,) = shown.plans
        assert (row.run, row.charged, row.planned) == ("run-1", 2 * STEPS, ROUNDS * STEPS)
        assert (row.epsilon, row.accountant) == (found.epsilon, "pld")
        assert shown.by_runs == found.epsilon
        assert shown.epsilon == shown.by_rdp < found.epsilon
        charge(ledger, version, run="x", event=Gaussian(noise_multiplier=50.0))
        assert statement(ledger).by_runs is None
        json.dumps(statement(ledger).as_json(), allow_nan=False)


# --- Ledgers of the format before ---------------------------------------------------------------


def old_ledger(folder: Path) -> Path:
    """Put a ledger where one was, that was written before there were plans."""
    entries = [json.loads(text) for text in OLD.read_bytes().splitlines()]
    folder.mkdir()
    (folder / "unit.key").write_bytes(bytes(range(32)))
    (folder / LEDGER).write_bytes(OLD.read_bytes())
    head = {"hash": entries[-1]["hash"], "seq": entries[-1]["seq"]}
    (folder / HEAD).write_text(json.dumps(head, sort_keys=True) + "\n")
    return folder


def test_an_old_ledger_goes_on_by_the_renyi_criteria_alone(tmp_path: Path) -> None:
    folder = old_ledger(tmp_path / "privacy")
    units = sorted(_digest(folder, name) for name in PATIENTS)
    (folder / "data").mkdir()
    (version,) = (
        json.loads(text)["body"]["version"]
        for text in OLD.read_bytes().splitlines()
        if json.loads(text)["kind"] == "data"
    )
    (folder / "data" / f"{version}.units").write_text("".join(f"{u}\n" for u in units))
    with open_ledger(folder) as ledger:
        assert ledger.account.constants.filter.runs == 0.0
        last = ledger.charges()[-1]
        assert ledger.spent(version) == pytest.approx(last.epsilon, rel=1e-9)
        found = plan(ledger, version, run="run-2", epsilon=2.0)
        assert math.isinf(found.epsilon)
        chosen = ledger.account.constants.filter
        (event,) = found.events
        assert chosen.rdp.epsilon(event.rdp(chosen.orders)) <= 2.0
        ledger.cover(version, run="run-2", event=one_round(found))
        rounds(ledger, version, found, 1, 2, run="run-2")
        kinds = [json.loads(t)["kind"] for t in (folder / LEDGER).read_bytes().splitlines()]
        assert kinds == ["opened", "data", *["charge"] * 4]
        assert statement(ledger).plans == ()
    with read_ledger(folder) as ledger:
        ledger.verify_data()
        ledger.verify_plans()


def test_an_old_ledger_has_no_place_for_a_plan(tmp_path: Path) -> None:
    folder = old_ledger(tmp_path / "privacy")
    text = [json.loads(line_) for line_ in OLD.read_bytes().splitlines()]
    body = {
        **{"version": text[1]["body"]["version"], "run": "r", "accountant": "pld"},
        **{"epsilon": 0.1, "delta": 1e-6, "asked": 0.0, "ceiling": 3.0},
        "events": [{"kind": "gaussian", "noise_multiplier": 5.0}],
    }
    entry = CHAIN.entry(5, text[-1]["hash"], text[-1]["time"], "0" * 16, "planned", body)
    with (folder / LEDGER).open("ab") as stream:
        stream.write(CHAIN.line(entry))
    with pytest.raises(DataError, match="line 5 is not what this version writes"):
        read_ledger(folder)


def _digest(folder: Path, name: str) -> str:
    from primia_flwr.privacy.ledger import people as ledger_units

    key = (folder / "unit.key").read_bytes()
    return ledger_units.rows(key, [name])[0][0]
