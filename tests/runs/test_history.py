import datetime
import json
import logging
import os
from pathlib import Path

import pytest

from primia_flwr.errors import CheckpointError
from primia_flwr.runs.history import History, RoundRow, SiteRow
from primia_flwr.runs.metadata import continued
from primia_flwr.storage.atomic import write_result


@pytest.fixture
def history(tmp_path):
    history = History(tmp_path / "run", ["loss", "dice"])
    history.rounds = [
        RoundRow(1, 2.5, 0.5, 0.25, sites=2, failed=1, bytes_up=10, bytes_down=20),
        RoundRow(2, 2.0, 0.25, 0.125, {"dice": 0.4, "loss": 0.5}, 3, 0, 30, 30, 99.5, 640),
    ]
    history.sites = [
        SiteRow(
            1, "munich", "ok", "", 20, 2, 1.0, 0.25, {"loss": 0.5, "dice": 0.75}, True, 100.0, 0.5
        ),
        SiteRow(1, "paris", "refused", 'says "no", firmly'),
    ]
    return history


def test_the_tables_have_the_agreed_columns_and_cells(history, tmp_path):
    history.mark_best(2)
    history.write()
    assert (tmp_path / "run" / "history.csv").read_text() == (
        "round,seconds,seconds_outside_training,train_loss,val_loss,val_dice,sites,failed,bytes_up,"
        "bytes_down,images_per_second,images,best\n"
        "1,2.5,0.5,0.25,,,2,1,10,20,,0,0\n"
        "2,2.0,0.25,0.125,0.5,0.4,3,0,30,30,99.5,640,1\n"
    )
    assert (tmp_path / "run" / "sites.csv").read_text() == (
        "round,site,status,reason,num_examples,num_batches,epochs,train_loss,val_loss,val_dice,"
        "stopped_early,images_per_second,seconds,staleness\n"
        "1,munich,ok,,20,2,1.0,0.25,0.5,0.75,1,100.0,0.5,\n"
        '1,paris,refused,"says ""no"", firmly",,,,,,,,,,\n'
    )


def test_rows_survive_a_checkpoint(history, tmp_path):
    stored = json.loads(json.dumps(history.to_dict()))
    restored = History(tmp_path / "other", history.metrics).restore(stored)
    assert (restored.rounds, restored.sites) == (history.rounds, history.sites)


def test_good_answers_are_those_that_count():
    statuses = ["ok", "evaluated", "refused", "failed", "rejected", "late"]
    assert [SiteRow(1, "a", status).good for status in statuses] == [True] * 2 + [False] * 4


def test_events_are_appended_with_their_time(history, tmp_path):
    history.event("round_started", round=1)
    history.event("site_reply", site="munich", status="ok")
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["event"], first["round"]) == ("round_started", 1)
    assert (second["site"], second["status"]) == ("munich", "ok")
    assert 0 <= second["time"] - first["time"] < 60


def full(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_a_full_disk_keeps_the_old_table(history, tmp_path, monkeypatch):
    history.write()
    before = (tmp_path / "run" / "history.csv").read_text()
    history.rounds.pop()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"history.csv cannot be written .No space left"):
        history.write()
    assert (tmp_path / "run" / "history.csv").read_text() == before


def test_an_event_that_cannot_be_written_does_not_end_the_run(history, monkeypatch, caplog):
    monkeypatch.setattr(os, "open", full)
    with caplog.at_level(logging.WARNING):
        history.event("round_started", round=1)
    assert "events.jsonl cannot be written" in caplog.text


def test_a_resumed_run_keeps_when_it_began_and_how_long_it_ran(tmp_path: Path) -> None:
    """The first process was killed 90 s after it began, the second ended by itself."""
    began = datetime.datetime(2026, 11, 21, 10, 0, tzinfo=datetime.UTC)
    assert continued(tmp_path) == {"seconds_before": 0.0}
    write_result(tmp_path / "run.json", {"started": began.isoformat(), "status": "running"})
    line = {"event": "round_finished", "time": began.timestamp() + 90}
    (tmp_path / "events.jsonl").write_text(json.dumps(line) + "\n" + '{"event": "cut')
    second = continued(tmp_path)
    assert (second["started"], second["seconds_before"]) == (began.isoformat(), 90.0)
    assert len(second["resumed"]) == 1
    # killed again: from the start of the second process to the last event
    then = began + datetime.timedelta(hours=2)
    facts = {**second, "resumed": [then.isoformat()]}
    write_result(tmp_path / "run.json", facts)
    line["time"] = then.timestamp() + 30
    (tmp_path / "events.jsonl").write_text(json.dumps(line) + "\n")
    third = continued(tmp_path)
    assert third["seconds_before"] == 120.0
    assert third["resumed"][0] == then.isoformat()
    assert len(third["resumed"]) == 2
    write_result(tmp_path / "run.json", {**third, "seconds": 333.3})
    assert continued(tmp_path)["seconds_before"] == 333.3


def test_a_run_without_events_or_with_an_odd_start_ran_for_no_time(tmp_path: Path) -> None:
    for began in ("2026-11-21T10:00:00+00:00", "yesterday"):
        write_result(tmp_path / "run.json", {"started": began})
        assert continued(tmp_path)["seconds_before"] == 0
    odd = {"started": began, "resumed": 3, "seconds_before": "long", "seconds": None}
    write_result(tmp_path / "run.json", odd)
    assert continued(tmp_path)["seconds_before"] == 0
    write_result(tmp_path / "run.json", {"started": 5})
    assert continued(tmp_path) == {"seconds_before": 0.0}
