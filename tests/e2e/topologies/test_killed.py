"""Topologies over a real federation (TLS, keys, gates, three SuperNodes), a site killed in each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from primia_flwr.privacy.ledger.view import read_ledger
from tests.e2e.disturbed import Disturbance, Disturbed, kill, start

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]
SITES = ("site-1", "site-2", "site-3")
IN_ROUND_TWO = {"event": "round_started", "round": 2}
WAITING = {"event": "waiting"}


def _statuses(run: Disturbed) -> dict[tuple[int, str], str]:
    return {(int(row["round"]), row["site"]): row["status"] for row in run.sites()}


def test_a_sealed_relay_waits_for_the_site_that_holds_the_model(tmp_path: Path) -> None:
    """site-3 has trained last in cycle 1 when it dies; what it had sealed is not lost with it."""
    sealed = ("strategy=cyclic", "aggregation.sealed=true", "data.normalisation.kind=fixed")
    run = Disturbed(tmp_path / "run", *sealed, rounds=3, min_sites=3, round_timeout=60.0)
    result = run.run(
        Disturbance(kill("site-3"), IN_ROUND_TWO, after=0.5), Disturbance(start("site-3"), WAITING)
    )
    assert result["rounds"] == 3
    status = _statuses(run)
    assert {status[3, site] for site in SITES} == {"ok"}


def test_a_private_relay_skips_a_dead_site_and_charges_nobody_twice(tmp_path: Path) -> None:
    private = ("privacy=dp_sgd", "privacy.expected_batch=8", "privacy.steps=2", "privacy.epsilon=5")
    words = ("strategy=cyclic", "model.norm=group", *private)
    run = Disturbed(tmp_path / "run", *words, rounds=3, min_sites=2, round_timeout=60.0)
    result = run.run(Disturbance(kill("site-2"), IN_ROUND_TWO, after=0.5))
    assert result["rounds"] == 3
    status = _statuses(run)
    assert {status[n, site] for n in (1, 2, 3) for site in ("site-1", "site-3")} == {"ok"}
    assert status[3, "site-2"] in ("failed", "late")
    for site, most in zip(SITES, ([1, 2, 3], [1, 2], [1, 2, 3]), strict=True):
        with read_ledger(run.kit(site) / "state/privacy") as ledger:
            rounds = [charge.instance for charge in ledger.charges()]
            assert rounds == most[: len(rounds)]
            assert len(rounds) >= len(most) - 1
            assert ledger.spent(ledger.charges()[-1].version) <= 5


def test_selective_sharing_under_masks_goes_on_when_a_site_is_back(tmp_path: Path) -> None:
    part = ("aggregation=secure", "aggregation.share=0.5")
    run = Disturbed(tmp_path / "run", *part, rounds=3, min_sites=3, round_timeout=60.0)
    step = {"event": "secure_step", "step": "vectors", "round": 2}
    result = run.run(
        Disturbance(kill("site-3"), step, after=0.2), Disturbance(start("site-3"), WAITING)
    )
    assert result["rounds"] == 3
    good = {row.round: row.survivors for row in run.sums() if row.kind == "train" and row.good}
    assert good == {number: list(SITES) for number in (1, 2, 3)}
    entries = sum(a.size for a in load_file(run.folder / "model.safetensors").values())
    for site in SITES:
        (kept,) = (run.kit(site) / "state").rglob("unsent-000003.safetensors")
        rest = load_file(kept)["unsent"]
        assert 0 < (rest != 0).sum() <= 0.5 * entries


def test_an_ensemble_keeps_the_last_model_of_a_site_that_died(tmp_path: Path) -> None:
    run = Disturbed(
        tmp_path / "run", "strategy=ensemble", rounds=3, min_sites=2, round_timeout=60.0
    )
    result = run.run(Disturbance(kill("site-2"), IN_ROUND_TWO, after=0.5))
    assert result["rounds"] == 3
    assert _statuses(run)[3, "site-2"] in ("failed", "late")
    card = json.loads((run.folder / "model.json").read_text())
    assert card["kind"] == "ensemble"
    assert card["votes"]["members"] == list(SITES)
