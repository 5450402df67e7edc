"""`primia secagg show` on run folders written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.cli.command import call
from primia_flwr.cli.federation.secagg_show import COMMAND, ShowArguments
from primia_flwr.config.load import compose, parse
from primia_flwr.runs.secure_sums import FILE, STATISTICS, TRAIN, SumRow
from primia_flwr.runs.sum_log import SumLog

SITES = ["london", "munich", "paris"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    facts = {"name": "chest", "secure_aggregation": True, "deployment": "deployment"}
    (path / "run.json").write_text(json.dumps(facts))
    return path


def add(folder: Path, number: int, kind: str = TRAIN, **given: object) -> None:
    """Three sites, 1,000 entries: 4,000 bytes plain, 4,040 as they were sent."""
    values: dict[str, object] = {
        "members": SITES,
        "survivors": SITES,
        "threshold": 2,
        "neighbours": 2,
        "min_survivors": 3,
        "entries": 1000 if kind == TRAIN else 0,
        "error_bound": 1e-6 if kind == TRAIN else 0.0,
        "bytes_up": 12_120 if kind == TRAIN else 300,
        "bytes_down": 12_600,
        "seconds": {"vectors": 1.25},
    }
    row = SumRow(number, kind, 7, SITES, **{**values, **given})  # type: ignore[arg-type]
    SumLog(folder).add(row)


def show(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = call(COMMAND, list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_tables_words_and_one_json_line(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(run_dir, 0, STATISTICS)
    add(run_dir, 1)
    add(run_dir, 2, survivors=SITES[:2], dropped=["paris"], reason="too few sites are left [2]")
    add(run_dir, 2, audit_error=5e-7)
    code, out, err = show(capsys, f"run={run_dir}")
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1]) == {
        "run": str(run_dir),
        "rounds": 2,
        "sums": 3,
        "given_up": 1,
        "smallest_sum": 3,
        "error_bound": 1e-6,
        "audit_ratio": pytest.approx(0.5),
        "upload_ratio": pytest.approx(1.01),
        "bytes_up": 300 + 3 * 12_120,
        "bytes_down": 4 * 12_600,
        "min_survivors": 3,
        "max_colluding": 0,
        "complete_graph": True,
        "one_machine": False,
        "unreadable": 0,
    }
    text = " ".join(out.split())
    assert "training 1 4.0 kB 4.0 kB 1.010 4.2 kB 1.00e-06" in text
    assert "1.25" in text
    assert "are left [2]" in text, "a reason is text, not markup"
    for title in ("What the coordinator saw", "What it could not see", "What is not protected"):
        assert title in out
    assert "Total: rounds 2, sums learned 3, sums given up 1, fewest sites in a sum 3" in text


def test_no_heading_or_name_is_cut_on_a_narrow_terminal(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    add(run_dir, 12, survivors=SITES[:2], dropped=["paris"], signatures=2, audit_error=1e-7)
    out = show(capsys, str(run_dir))[1]
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    assert "Threshold" in out
    tables = out.split("What the coordinator saw")[0].splitlines()
    assert max(len(line) for line in tables[1:]) <= 80


def test_quiet_keeps_the_tables_off_standard_output(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(run_dir, 1)
    code, out, err = show(capsys, str(run_dir), "quiet=true")
    assert code == 0
    assert json.loads(out)["sums"] == 1
    assert "What it could not see" in err


def test_only_given_up_sums_are_shown_too(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(run_dir, 0, STATISTICS, members=[], survivors=[], reason="only 2 sites sent keys")
    code, out, _ = show(capsys, str(run_dir))
    assert code == 0
    assert "only 2 sites sent keys" in " ".join(out.split())
    result = json.loads(out.splitlines()[-1])
    assert (result["sums"], result["given_up"], result["smallest_sum"]) == (0, 1, None)


def test_a_plain_run_is_a_mistake_that_says_what_the_coordinator_saw(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / "run.json").write_text(json.dumps({"secure_aggregation": False}))
    code, out, err = show(capsys, f"run={run_dir}")
    assert (code, out) == (2, "")
    assert err == (
        f"error: run={run_dir} used plain averaging: the coordinator saw each site's update; "
        "expected a run with aggregation=secure\n"
    )


def test_a_run_without_means_is_a_mistake_that_says_who_saw_models(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Relay: the next site and the coordinator saw each site's model"
    (run_dir / "run.json").write_text(json.dumps({"secure_aggregation": False, "seen": said}))
    code, _, err = show(capsys, f"run={run_dir}")
    assert code == 2
    assert f"has no secure sums ({said}); expected a run with aggregation=secure" in err


def test_a_secure_run_without_a_readable_sum_says_so(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / FILE).write_text('{"round": 0, "ki')
    code, out, err = show(capsys, str(run_dir))
    assert (code, out) == (2, "")
    assert "aggregated securely, but has no readable line in secure-sums.jsonl" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run is empty; expected the output folder of a run"),
        (["run=/nowhere"], "run=/nowhere; expected an existing output folder"),
        (["last=3"], "last"),
    ],
)
def test_mistakes_get_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = show(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_that_is_no_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = show(capsys, str(tmp_path))
    assert code == 2
    assert "no run.json there; expected the output folder of a run" in err


def test_conf_spells_the_dataclass_defaults() -> None:
    assert parse(ShowArguments, compose("commands/federation/secagg_show")) == ShowArguments()
