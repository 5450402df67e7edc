"""A patient's own limit at a site: left out before anything is counted, and never passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clients.site.ledger_request import without_patients
from clients.site.opened import SiteContext, open_site
from primia_flwr.data.dataset import load_own_site
from primia_flwr.data.names import key_of
from primia_flwr.errors import PrivacyBudgetError
from tests.clients.answering import answer_train
from tests.clients.handlers.test_answers import simulated, train_message
from tests.clients.mods.test_dp import ledger_of, text_of


def limited(text: str, limits: dict[str, float]) -> SiteContext:
    context = simulated(text)
    return SiteContext(context, replace(open_site(context), limits=limits))


def people(text: str) -> list[str]:
    data = open_site(simulated(text)).data
    return sorted({*data.train.patients, *data.val.patients})


def units_of_the_charge(folder: Path) -> tuple[int, float]:
    with ledger_of(folder) as ledger:
        charge = ledger.charges()[-1]
        return ledger.account.versions[charge.version], charge.event.sampling_rate


def test_who_allows_less_than_the_run_asks_for_is_no_part_of_it(tmp_path: Path) -> None:
    text = text_of(tmp_path)  # epsilon 8
    everybody = people(text)
    limits = {key_of(everybody[0]): 7.9, key_of(everybody[1]): 8.1, "somebody else": 0.5}
    answer_train(train_message(text), limited(text, limits))
    units, rate = units_of_the_charge(tmp_path)
    assert units == len(everybody) - 1
    assert rate == 8 / units


def test_a_limit_that_is_lowered_within_a_run_ends_it_here(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    who = key_of(people(text)[0])
    answer_train(train_message(text), limited(text, {who: 9.0}))
    with pytest.raises(PrivacyBudgetError, match="patient with an own limit"):
        answer_train(train_message(text, 2), limited(text, {who: 1e-6}))
    with ledger_of(tmp_path) as ledger:
        assert [charge.instance for charge in ledger.charges()] == [1]


def test_who_shares_an_image_is_left_out_too_and_nobody_left_is_refused(tmp_path: Path) -> None:
    images = open_site(simulated(text_of(tmp_path))).data.train
    first, other = (row for row in (0, images.patients.index(sorted(images.patients)[-1])))
    assert images.patients[first] != images.patients[other]
    digests = list(images.digests)
    digests[other] = digests[first]
    twins = replace(images, digests=tuple(digests))
    left = without_patients(twins, {key_of(images.patients[first])})
    assert {images.patients[first], images.patients[other]}.isdisjoint(left.patients)
    assert len({*left.patients}) == len({*images.patients}) - 2
    with pytest.raises(PrivacyBudgetError, match="no patient of this site allows as much"):
        without_patients(images, {key_of(name) for name in images.patients})
    assert without_patients(images, set()) is images


def test_who_takes_part_in_nothing_is_not_even_loaded(tmp_path: Path) -> None:
    experiment = open_site(simulated(text_of(tmp_path))).experiment
    whole = load_own_site(experiment.data, seed=1, name="site-1")
    names = {*whole.train.patients, *whole.val.patients}
    out = sorted(names)[0]
    found = load_own_site(experiment.data, seed=1, name="site-1", without={key_of(out)})
    assert {*found.train.patients, *found.val.patients} == names - {out}
