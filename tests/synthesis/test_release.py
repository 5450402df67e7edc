"""The ledger around a generator: charged before it is given out, never twice for one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import DataError, DivergenceError, PrivacyBudgetError
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.synthesis.config import SynthesisPrivacy
from primia_flwr.synthesis.release import Account, Paid, Request, State, outlook, pay_for

PRIVACY = SynthesisPrivacy(epsilon=4.0, delta=1e-3, expected_batch=3, steps=5)
STATE = {"weight": torch.ones(2)}
PATIENTS = ("anna", "ben", "cleo", "dan", "eve", "fay")


def images(patients: tuple[str, ...] = PATIENTS) -> LabelledImages:
    count = len(patients)
    return LabelledImages(
        torch.zeros((count, 1, 16, 16), dtype=torch.uint8),
        torch.arange(count) % 2,
        patients,
        patients,
        ("a", "b"),
        digests=tuple(hashlib.sha256(name.encode()).hexdigest() for name in patients),
    )


def account(folder: Path, **given: object) -> Account:
    return replace(Account(folder / "ledger", "munich", "patient", 1e-3, 4.0), **given)  # type: ignore[arg-type]


class Training:
    """Counts how often it was asked."""

    def __init__(self, state: State = STATE) -> None:
        self.events, self._state = list[SampledGaussian](), state

    def __call__(self, event: SampledGaussian) -> State:
        self.events.append(event)
        return self._state


def paid(
    folder: Path, training: Training, *, seed: int = 1, data: LabelledImages | None = None
) -> Paid:
    request = Request.of({"seed": seed})
    return pay_for(account(folder), data or images(), request, PRIVACY, training)


def charges(folder: Path) -> list[tuple[str, SampledGaussian]]:
    with read_ledger(folder / "ledger") as ledger:
        return [(c.run, c.event) for c in ledger.charges()]  # type: ignore[misc]


def test_all_steps_are_charged_at_the_rate_of_the_public_number_of_patients(tmp_path: Path) -> None:
    training = Training()
    found = paid(tmp_path, training)
    (event,) = training.events
    assert (event.sampling_rate, event.steps, found.units, found.again) == (3 / 6, 5, 6, False)
    assert charges(tmp_path) == [(Request.of({"seed": 1}).run, event)]
    with read_ledger(tmp_path / "ledger") as ledger:
        assert 3.9 < ledger.account.constants.filter.epsilon(ledger.most_used()) <= 4.0
        assert ledger.head().hash == found.head


def test_the_same_request_is_answered_for_free_and_without_training(tmp_path: Path) -> None:
    first, again = paid(tmp_path, Training()), Training()
    second = paid(tmp_path, again)
    assert again.events == []
    assert second.again
    assert (second.entry, second.head) == (first.entry, first.head)
    assert torch.equal(second.state["weight"], STATE["weight"])
    assert len(charges(tmp_path)) == 1


def test_another_request_is_refused_by_the_ceiling_before_training(tmp_path: Path) -> None:
    paid(tmp_path, Training())
    training = Training()
    with pytest.raises(PrivacyBudgetError, match="expected at most the site's ceiling 4"):
        paid(tmp_path, training, seed=2)
    assert training.events == []
    assert len(charges(tmp_path)) == 1


def test_training_that_is_stopped_charges_nothing(tmp_path: Path) -> None:
    def stopped(event: SampledGaussian) -> State:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pay_for(account(tmp_path), images(), Request.of({}), PRIVACY, stopped)
    assert charges(tmp_path) == []


def test_it_is_charged_before_anybody_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full when the generator is kept: paid for, and not given out."""

    def full(*_: object) -> None:
        raise DataError("no room")

    monkeypatch.setattr("primia_flwr.privacy.ledger.ledger.Ledger.store", full)
    with pytest.raises(DataError, match="no room"):
        paid(tmp_path, Training())
    assert len(charges(tmp_path)) == 1


def test_a_generator_that_broke_down_is_paid_for(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match="not finite"):
        paid(tmp_path, Training({"weight": torch.tensor([float("nan")])}))
    assert len(charges(tmp_path)) == 1


def test_other_data_are_another_request(tmp_path: Path) -> None:
    paid(tmp_path, Training())
    with pytest.raises(DataError, match="the data changed since run"):
        paid(tmp_path, Training(), data=images(PATIENTS[:5]))


def test_images_without_digests_are_refused(tmp_path: Path) -> None:
    training = Training()
    with pytest.raises(DataError, match="0 digests of files for 6 images"):
        paid(tmp_path, training, data=replace(images(), digests=()))
    assert training.events == []


def test_a_patient_in_another_spelling_is_charged_on_top(tmp_path: Path) -> None:
    paid(tmp_path, Training())
    others = images(("ANNA ", "gus", "hal", "ida", "jan", "kim"))
    with pytest.raises(PrivacyBudgetError, match="ceiling"):
        paid(tmp_path, Training(), seed=2, data=others)
    strangers = images(("gus", "hal", "ida", "jan", "kim", "leo"))
    assert not paid(tmp_path, Training(), seed=3, data=strangers).again


def test_a_patient_with_a_smaller_limit_is_outside_or_refuses(tmp_path: Path) -> None:
    own = account(tmp_path, limits={"anna": 1.0, "ben": 9.0}, ceiling=None)
    assert own.outside(run="run", epsilon=4.0) == {"anna"}
    assert not own.begun
    with pytest.raises(PrivacyBudgetError, match="a patient with an own limit"):
        pay_for(own, images(), Request.of({}), PRIVACY, Training())
    without = images(PATIENTS[1:])
    pay_for(own, without, Request.of({"n": 2}), PRIVACY, Training())
    assert own.outside(run="other", epsilon=6.0) == {"anna", "ben"}


def test_a_price_is_told_without_a_ledger_and_after_one(tmp_path: Path) -> None:
    first, other = (Request.of({"seed": seed}) for seed in (1, 2))
    told = outlook(account(tmp_path), first, PRIVACY, units=6)
    assert (told.spent, told.paid) == (0, False)
    assert not (tmp_path / "ledger").exists()
    training = Training()
    paid(tmp_path, training)
    assert training.events == [told.event]
    again = outlook(account(tmp_path), first, PRIVACY, units=6)
    assert (again.event, again.paid) == (told.event, True)
    assert again.spent == pytest.approx(4.0, rel=0.02)
    assert not outlook(account(tmp_path), other, PRIVACY, units=6).paid
