"""A run with differential privacy over real processes: killed, resumed, and nothing uncharged."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from primia_flwr.models.saved import load_model
from primia_flwr.privacy.accounting.accountant import epsilon
from primia_flwr.privacy.ledger.view import read_ledger
from tests.e2e.in_memory import killed_in_memory, without_processes
from tests.e2e.runner import (
    TINY,
    InProcess,
    Primia,
    events,
    killed_launcher,
    last_json,
    processes_of,
    wait,
)

PRIVATE = (*TINY, "model.norm=group", "privacy.expected_batch=8", "privacy.steps=2")


def ledgers(run_dir: Path) -> dict[str, list[int]]:
    """Return the rounds that each site was charged for, after checking the whole ledger."""
    found = {}
    for folder in sorted(run_dir.glob("sites/*/privacy")):
        with read_ledger(folder) as ledger:
            ledger.verify_data()
            charges = ledger.charges()
            assert ledger.spent(charges[-1].version) <= 8
            assert epsilon([charge.event for charge in charges], delta=1e-5).epsilon <= 8
        found[folder.parent.name] = [charge.instance for charge in charges]
    return found


@pytest.mark.system
@pytest.mark.parametrize(
    "killed", [killed_in_memory, pytest.param(killed_launcher, marks=pytest.mark.slow)]
)
def test_a_killed_private_run_goes_on_and_every_round_was_paid_for(
    primia: Primia, killed: Callable[..., None]
) -> None:
    options = [*PRIVATE, "privacy=dp_sgd", "federation.rounds=3", "privacy.repeats=2"]
    broken = primia.folder / "broken"
    killed(primia, broken, "train", *options)
    with without_processes():
        resumed = InProcess(primia.folder)("train", f"resume={broken}")
    assert resumed.returncode == 0, resumed.stderr
    assert last_json(resumed.stdout)["rounds"] == 3
    for site, rounds in ledgers(broken).items():
        assert set(rounds) == {1, 2, 3}, site
        assert rounds == sorted(rounds), site
    report = (broken / "report.html").read_text()
    assert "Differential privacy" in report
    assert "one patient with all of his or her images" in report
    assert "epsilon = 8" in load_model(broken)[1].privacy
    # what the coordinator learnt: a constant, and no validation of anything
    sums = [json.loads(line) for line in (broken / "secure-sums.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in sums} == {"train"}
    assert all(row["numbers"] == ["weight"] for row in sums)
    assert (broken / "history.csv").read_text().count(",3,0,") == 3  # three sites, none failed
    assert json.loads((broken / "result.json").read_text())["best_round"] == 3
    heads = json.loads((broken / "ledger-heads.json").read_text())
    assert [head["site"] for head in heads] == ["site-1", "site-2", "site-3"]
    shown = InProcess(primia.folder)(
        "privacy", "show", f"ledger={broken}/sites/site-1/privacy", "quiet=true"
    )
    assert shown.returncode == 0, shown.stderr
    assert last_json(shown.stdout)["charges"] >= 3


@pytest.mark.slow
def test_noise_of_the_aggregate_over_real_processes(primia: Primia) -> None:
    options = [*PRIVATE, "privacy=dp_aggregate", "federation.rounds=2"]
    done = primia("train", *options, "output_dir=run")
    assert done.returncode == 0, done.stderr
    assert ledgers(primia.folder / "run") == {f"site-{n}": [1, 2] for n in (1, 2, 3)}
    assert "Skellam" in (primia.folder / "run" / "report.html").read_text()


@pytest.mark.slow
def test_steps_whose_noise_is_shared_over_real_processes(primia: Primia) -> None:
    options = [*PRIVATE, "privacy=dp_sgd_shared", "privacy.steps=1"]
    options += ["privacy.sampling_rate=0.5", "federation.rounds=2", "output_dir=run"]
    done = primia("train", *options)
    assert done.returncode == 0, done.stderr
    assert ledgers(primia.folder / "run") == {f"site-{n}": [1, 2] for n in (1, 2, 3)}
    assert (
        "one step of DP-SGD over all sites" in (primia.folder / "run" / "report.html").read_text()
    )


@pytest.mark.slow
def test_a_site_whose_ledger_was_put_back_is_left_out_and_says_why(primia: Primia) -> None:
    options = [*PRIVATE, "privacy=dp_sgd", "federation.rounds=9", "privacy.repeats=2"]
    options += ["federation.wait_for_sites=20", "federation.min_sites=3"]
    broken = primia.folder / "broken"
    launcher = primia.start("train", *options, f"output_dir={broken}")
    ledger = broken / "sites" / "site-2" / "privacy" / "ledger.jsonl"
    wait(lambda: ledger.exists() and ledger.read_text().count('"kind":"charge"') == 1)
    saved = {path: path.read_bytes() for path in ledger.parent.rglob("*") if path.is_file()}
    wait(
        lambda: any(e.get("round") == 2 and e["event"] == "round_finished" for e in events(broken))
    )
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.communicate()
    wait(lambda: not processes_of(primia.folder), 60)
    shutil.rmtree(ledger.parent)  # what is newer would tell the site itself
    for path, content in saved.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    resumed = primia("train", f"resume={broken}")
    assert resumed.returncode != 0
    assert "a witness has seen answer" in (broken / "sites.csv").read_text() + resumed.stderr
