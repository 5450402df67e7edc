"""The live view reads a run's files: events as they come, half-written lines later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.cli.train.live import EventTail, LiveView
from primia_flwr.config.rows import TASKS

AIM = TASKS["classification"].aim


def test_the_tail_gives_each_complete_line_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.new() == []
    path.write_text('{"event": "a"}\n{"event": "b"}\n{"eve')
    assert [event["event"] for event in tail.new()] == ["a", "b"]
    assert tail.new() == []
    with path.open("a") as file:
        file.write('nt": "c"}\n')
    assert tail.new() == [{"event": "c"}]


def test_a_resumed_run_does_not_repeat_old_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "old"}\n')
    assert EventTail(path).new() == []


def test_without_a_terminal_there_is_a_line_per_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LiveView(tmp_path, 2, ["munich"], AIM, quiet=False) as view:
        events = [
            {"event": "introducing", "sites": ["munich", "node 5"]},
            {"event": "waiting", "online": ["munich"], "needed": 2},
            {"event": "round_started", "round": 1},
            {"event": "site_reply", "round": 1, "site": "munich", "status": "refused",
             "reason": "policy"},
            {"event": "round_finished", "round": 1, "train_loss": 0.5, "val_loss": None,
             "val_mcc": 0.25, "sites": 2, "seconds": 3.0},
            {"event": "unknown"},
        ]  # fmt: skip
        (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
        view.update()
    text = capsys.readouterr().err
    assert "waiting for 2 sites; there: munich" in text
    assert "munich: refused policy" in text
    assert "round 1: train loss 0.500  val loss -  val MCC 0.250  2 sites  3.0 s" in text


def test_a_validation_stands_beside_the_round_whose_model_it_is_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sites validate the model of round r when they begin round r + 1, the last one at the end."""
    with LiveView(tmp_path, 3, ["munich"], AIM, quiet=False) as view:
        events = [
            {"event": "round_finished", "round": 1, "train_loss": 0.5, "val_loss": None,
             "val_mcc": None, "val_round": 0, "sites": 2, "seconds": 3.0},
            {"event": "round_finished", "round": 2, "train_loss": 0.4, "val_loss": 0.7,
             "val_mcc": 0.25, "val_round": 1, "sites": 2, "seconds": 3.0},
            {"event": "validated", "round": 2, "train_loss": 0.4, "val_loss": 0.6,
             "val_mcc": 0.5, "sites": 2},
        ]  # fmt: skip
        (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
        view.update()
    assert capsys.readouterr().err.splitlines() == [
        "round 1: train loss 0.500  2 sites  3.0 s, about 6 s left",
        "round 1: val loss 0.700  val MCC 0.250",
        "round 2: train loss 0.400  2 sites  3.0 s, about 3 s left",
        "round 2: val loss 0.600  val MCC 0.500",
    ]


def test_a_search_shows_rung_and_configuration_and_how_far_all_of_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = {"rung": 2, "rungs": 3, "configuration": 4, "configurations": 9, "done": 12}
    with LiveView(tmp_path, 9, ["munich"], AIM, quiet=False) as view:
        events = [
            {"event": "round_finished", "round": 2, "total": 21, "sites": 3, **where},
            {"event": "configuration_diverged", "reason": "munich: the loss is nan", **where},
            {"event": "finished", **where},
        ]
        (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
        view.update()
        bar = view._progress.tasks[0]
        assert (bar.completed, bar.total) == (12, 21)
    text = capsys.readouterr().err
    assert "rung 2/3, configuration 4 of 0-8, round 2: train loss -" in text
    assert "configuration 4 diverged munich: the loss is nan" in text
    assert "chosen: configuration 4" in text


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LiveView(tmp_path, 1, [], AIM, quiet=True) as view:
        view.say("hello")
        view.step("centralised", 1, 2, "fast")
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def shown(folder: Path, events: list[dict[str, object]], rounds: int = 3) -> None:
    with LiveView(folder, rounds, ["munich"], AIM, quiet=False) as view:
        (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
        view.update()


def test_what_a_site_says_is_no_markup_and_a_repeated_round_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[dict[str, object]] = [
        {"event": "site_reply", "site": "node 5", "status": "failed", "reason": "[/] [red]x"},
        {"event": "round_repeated", "round": 2, "attempt": 1, "updates": 1},
    ]
    shown(tmp_path, events)
    assert capsys.readouterr().err.splitlines() == [
        "node 5: failed [/] [red]x",
        "round 2 is repeated: 1 good updates came in attempt 1",
    ]


def test_on_a_terminal_past_rounds_stay_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    validation = {"val_loss": 0.7, "val_mcc": 0.25, "val_round": 1}
    events: list[dict[str, object]] = [
        {"event": "round_finished", "round": 1, "train_loss": 0.5, "val_round": 0, "sites": 2,
         "seconds": 3.0},
        {"event": "round_finished", "round": 2, "train_loss": 0.4, "sites": 1, "seconds": 62.25,
         **validation},
    ]  # fmt: skip
    shown(tmp_path, events)
    text = capsys.readouterr().err
    rows = [
        "round  train loss  val loss  val MCC  sites   seconds",
        "    1       0.500     0.700    0.250      2       3.0",
        "    2       0.400         -        -      1      62.2",  # nobody validated it
    ]
    places = [text.index(row) for row in rows]
    assert places == sorted(places)
    assert "\x1b[3" not in text, "no colour"
