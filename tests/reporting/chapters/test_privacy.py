import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.models.provenance import Provenance
from primia_flwr.privacy.accounting.accountant import epsilon
from primia_flwr.privacy.accounting.events import Gaussian, SampledGaussian
from primia_flwr.privacy.accounting.run_plan import Wish
from primia_flwr.privacy.ledger.ledger import Ledger
from primia_flwr.reporting.chapters.privacy import HEADINGS, privacy_account

EVENT = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=5)


def config(**values: object) -> dict[str, object]:
    return {"privacy": asdict(PrivacyConfig(mode="dp_sgd", epsilon=8.0, **values))}


def charge(run_dir: Path, site: str, *events: SampledGaussian | Gaussian, units: int = 40) -> None:
    folder = run_dir / "sites" / site / "privacy"
    with Ledger.open(folder, site=site, unit="patient", delta=1e-5, ceiling=20) as ledger:
        version = ledger.register([f"{site}-{number}" for number in range(units)])
        for number, event in enumerate(events):
            ledger.charge(
                version, run="a", instance=number, request=b"", event=event, what="update"
            )


def test_a_run_that_claims_nothing_has_no_account(tmp_path: Path) -> None:
    assert privacy_account(tmp_path, {}) is None
    assert privacy_account(tmp_path, {"privacy": asdict(PrivacyConfig())}) is None


def test_the_worst_site_counts_where_patients_are_disjoint(tmp_path: Path) -> None:
    charge(tmp_path, "munich", EVENT)
    charge(tmp_path, "paris", EVENT, EVENT)
    account = privacy_account(tmp_path, config())
    expected = epsilon([EVENT, EVENT], delta=1e-5)
    assert account.facts["epsilon"] == pytest.approx(expected.epsilon)
    assert account.facts["epsilon_accountant"] == "pld"
    assert f"cost epsilon = {expected.epsilon:.3g} at delta = 1e-05" in account.statement
    assert "no patient is at two sites" in account.statement
    assert [row[0] for row in account.rows] == ["munich", "paris"]
    assert {len(row) for row in account.rows} == {len(HEADINGS)}
    assert account.rows[1][1:6] == ("40", "2", "1", "0.1", "10")


def plan_and_charge(run_dir: Path, *steps: int, planned: int = 40) -> float:
    """Plan so many steps, charge some; return what the ledger's filter counts."""
    wish = Wish((replace(EVENT, steps=planned),))
    folder = run_dir / "sites" / "munich" / "privacy"
    with Ledger.open(folder, site="munich", unit="patient", delta=1e-5, ceiling=20) as ledger:
        version = ledger.register([str(number) for number in range(40)])
        ledger.plan(version, run="a", wish=wish)
        for number, some in enumerate(steps):
            event = replace(EVENT, steps=some)
            ledger.charge(
                version, run="a", instance=number, request=b"", event=event, what="update"
            )
        return ledger.spent(version)


def test_of_a_plan_all_of_it_is_claimed_although_the_run_stopped_early(tmp_path: Path) -> None:
    plan_and_charge(tmp_path, 5, 5)
    account = privacy_account(tmp_path, config())
    whole = epsilon([replace(EVENT, steps=40)], delta=1e-5).epsilon
    assert account.facts["epsilon"] == pytest.approx(whole)
    assert whole > 1.3 * epsilon([replace(EVENT, steps=10)], delta=1e-5).epsilon
    assert account.rows[0][5] == "10", "steps that were taken"
    assert "As the plan was fixed beforehand" in account.statement


def test_beyond_a_plan_the_filter_is_claimed(tmp_path: Path) -> None:
    spent = plan_and_charge(tmp_path, 30, 30)
    account = privacy_account(tmp_path, config())
    assert account.facts["epsilon"] == pytest.approx(spent)
    assert account.facts["epsilon_accountant"] == "filter"
    assert "By the filter, it cost" in account.statement


def test_the_sites_add_up_where_patients_may_be_shared(tmp_path: Path) -> None:
    charge(tmp_path, "munich", EVENT)
    charge(tmp_path, "paris", EVENT)
    account = privacy_account(tmp_path, config(disjoint_patients=False))
    one = epsilon([EVENT], delta=1e-5).epsilon
    assert account.facts["epsilon"] == pytest.approx(2 * one)
    assert "are added up" in account.statement


def test_statistics_are_named_where_they_were_noised(tmp_path: Path) -> None:
    charge(tmp_path, "munich", Gaussian(noise_multiplier=5.0), EVENT)
    noisy = privacy_account(tmp_path, config(statistics_noise=5.0)).statement
    assert "pixel statistics (noise multiplier 5)" in noisy
    assert "no statistics are asked for" in privacy_account(tmp_path, config()).statement


def test_a_coordinator_without_ledgers_states_what_was_asked_for(tmp_path: Path) -> None:
    account = privacy_account(tmp_path, config())
    assert "Asked for was epsilon = 8 at delta = 1e-05" in account.statement
    assert "it cost" not in account.statement
    assert account.rows == []
    assert "epsilon" not in account.facts


def test_a_ledger_that_was_changed_is_left_out(tmp_path: Path) -> None:
    charge(tmp_path, "munich", EVENT)
    charge(tmp_path, "paris", EVENT)
    path = tmp_path / "sites" / "paris" / "privacy" / "ledger.jsonl"
    path.write_text(path.read_text().replace('"steps":5', '"steps":1'))
    assert [row[0] for row in privacy_account(tmp_path, config()).rows] == ["munich"]


@pytest.mark.parametrize("mode", ["dp_sgd", "dp_aggregate", "dp_sgd_shared"])
def test_the_statement_names_unit_mechanism_and_what_is_not_covered(
    mode: str, tmp_path: Path
) -> None:
    shared = {"sampling_rate": 0.25, "steps": 1} if mode == "dp_sgd_shared" else {}
    cfg = PrivacyConfig(mode=mode, unit="image", noise_multiplier=1.5, **shared)
    statement = privacy_account(tmp_path, {"privacy": asdict(cfg)}).statement
    assert "one single image" in statement
    assert "a noise multiplier of 1.5" in statement
    assert "Not covered" in statement
    assert ("Skellam" in statement) is (mode != "dp_sgd")


def test_the_statement_says_that_the_clip_moved(tmp_path: Path) -> None:
    cfg = PrivacyConfig(mode="dp_sgd", noise_multiplier=1.5, clip_quantile=0.5)
    account = privacy_account(tmp_path, {"privacy": asdict(cfg)})
    assert "an L2 norm of 1 at first, which then followed the units' norms" in account.statement
    assert account.facts["clip_quantile"] == 0.5
    fixed = privacy_account(tmp_path, config())
    assert "an L2 norm of 1, Gaussian noise" in fixed.statement
    assert "clip_quantile" not in fixed.facts


def test_what_the_first_weights_cost_is_added(tmp_path: Path) -> None:
    charge(tmp_path, "munich", EVENT)
    alone = privacy_account(tmp_path, config())
    added = Provenance(epsilon=3.0, delta=2e-5, drawn=False).to_dict()
    (tmp_path / "first-weights.json").write_text(json.dumps({"added": added}))
    account = privacy_account(tmp_path, config())
    assert account.epsilon_of_run == alone.epsilon_of_run == alone.facts["epsilon"]
    assert account.facts["epsilon"] == alone.facts["epsilon"] + 3
    assert account.facts["epsilon_by_filter"] == alone.facts["epsilon_by_filter"] + 3
    assert account.facts["delta"] == pytest.approx(3e-5)
    assert account.facts["epsilon_of_first_weights"] == 3
    assert f"in all epsilon = {alone.facts['epsilon'] + 3:.3g} at delta = 3e-05" in (
        account.statement
    )


def test_a_statement_about_the_first_weights_stands_in_the_account(tmp_path: Path) -> None:
    account = privacy_account(tmp_path, config(weights_without_patients=True))
    assert "stated that none of its patients was in the training" in account.statement
    assert account.epsilon_of_run == 8.0  # as asked, where no ledger is at hand
