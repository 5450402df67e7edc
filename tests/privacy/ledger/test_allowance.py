"""Limits of single patients against the ledger: who may be in a run, and what refuses."""

from pathlib import Path

import pytest

from primia_flwr.errors import PrivacyBudgetError
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.accounting.run_plan import Wish
from primia_flwr.privacy.ledger.allowance import check_limits, taking_part
from primia_flwr.privacy.ledger.ledger import Ledger
from tests.privacy.ledgers import charge, open_ledger

STEPS = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.01, steps=10)
PATIENTS = ("anna", "ben", "cleo")


def a_run(ledger: Ledger, run: str, patients: tuple[str, ...] = PATIENTS) -> str:
    """Plan a run of epsilon 1, and charge for all of it."""
    version = ledger.register(patients)
    plan = ledger.plan(version, run=run, wish=Wish((STEPS,), 1.0))
    charge(ledger, version, run=run, event=plan.events[0])
    return version


def test_a_limit_lets_in_as_many_runs_as_fit(tmp_path: Path) -> None:
    limits = {"anna": 0.9, "ben": 1.0, "cleo": 2.5}
    with open_ledger(tmp_path) as ledger:
        ledger.register(PATIENTS)
        assert taking_part(ledger, limits, run="r1", epsilon=1.0) == {"ben", "cleo"}
        a_run(ledger, "r1", ("ben", "cleo"))
        assert taking_part(ledger, limits, run="r2", epsilon=1.0) == {"cleo"}
        a_run(ledger, "r2", ("cleo",))
        assert taking_part(ledger, limits, run="r3", epsilon=1.0) == frozenset()
        assert taking_part(ledger, limits, run="r3", epsilon=0.4) == {"anna", "cleo"}


def test_who_is_in_a_run_stays_in_it(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        a_run(ledger, "r1", ("anna", "ben"))
        limits = {"anna": 0.1, "cleo": 3.0}  # changed since: the charge will refuse, not the choice
        assert taking_part(ledger, limits, run="r1", epsilon=1.0) == {"anna"}


def test_nobody_with_a_limit_is_in_a_run_of_unknown_cost(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        assert taking_part(ledger, {"anna": 1000.0}, run="r1", epsilon=0.0) == frozenset()


def test_what_was_spent_under_another_name_counts(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(("old name",), ["a" * 64])
        plan = ledger.plan(version, run="r1", wish=Wish((STEPS,), 1.0))
        charge(ledger, version, run="r1", event=plan.events[0])
        ledger.register(("anna",), ["a" * 64])
        assert taking_part(ledger, {"anna": 1.5}, run="r2", epsilon=1.0) == frozenset()
        assert taking_part(ledger, {"anna": 2.1}, run="r2", epsilon=1.0) == {"anna"}


def test_a_charge_beyond_a_limit_is_refused_and_names_nobody(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        plan = ledger.plan(version, run="r1", wish=Wish((STEPS,), 1.0))
        check_limits(ledger, {"anna": 1.0}, version, run="r1", events=plan.events)
        with pytest.raises(PrivacyBudgetError, match=r"expected at most 0\.5") as refused:
            check_limits(ledger, {"anna": 0.5}, version, run="r1", events=plan.events)
        assert "anna" not in str(refused.value)
        check_limits(ledger, {"dan": 0.5}, version, run="r1", events=plan.events)  # not in it
