import json
import sys
import time
from pathlib import Path

import pytest

from primia_flwr.errors import ConfigError
from primia_flwr.processes.children import wait_until
from primia_flwr.site.log import LogEntry, LogTail, SiteLog
from primia_flwr.site.policy import load_policy, parse_policy
from primia_flwr.site.run import _check_command
from primia_flwr.site.watch import alerts
from primia_flwr.site.watch.alerts import Alerts, run_command
from primia_flwr.site.watch.lines import line_of

BASE = "site: munich\nsuperlink: fl.example.org:9391\n"


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def entry(event, **details):
    return LogEntry(7, "2026-11-30T12:03:01.500+00:00", event, details, "0" * 64, "1" * 64)


@pytest.mark.parametrize(
    ("event", "details", "line"),
    [
        ("request",
         {"run": "77", "message": "train", "round": "3", "arrays": 1, "bytes": 44_700_000},
         "request: train, round 3, of run 77, 1 arrays, 44.7 MB"),
        ("request", {"run": "77", "message": "query", "round": "statistics"},
         "request: query, of run 77, 0 arrays, 0.0 MB"),
        ("refused", {"message": "train", "reason": "site munich refuses: no"},
         "refused: train: site munich refuses: no"),
        ("accepted", {"message": "train", "experiment": "pneumonia"},
         "accepted: training for pneumonia"),
        ("accepted", {"message": "query.secagg", "experiment": "x"},
         "accepted: answering query.secagg for x"),
        ("left", {"message": "train", "arrays": 2, "bytes": 500_000, "error": "it failed"},
         "left: train, 2 arrays, 0.5 MB, an error: it failed"),
        ("stored", {"bundle": "ab" * 32},
         "stored: code that nobody has looked at: primia site review abababababab"),
        ("given-up", {"run": "77", "reason": "its run is over"},
         "given-up: run 77, reason its run is over"),
        ("started", {"superlink": "a:1", "pid": 9}, "started: superlink a:1"),
    ],
)  # fmt: skip
def test_each_event_is_one_line(event, details, line):
    assert line_of(entry(event, **details)) == f"12:03:01 {line}"


def test_a_line_steers_no_terminal():
    shown = line_of(entry("failed", reason="\x1b[2J" + "x" * 5000))
    assert "\x1b" not in shown
    assert len(shown) < 700
    assert line_of(LogEntry(1, "no time", "stopped", {}, "", "")) == "??:??:?? stopped"


def test_the_tail_has_what_is_new_and_whole(tmp_path):
    file = tmp_path / "log.jsonl"
    tail = LogTail(file)
    assert tail.new() == []
    log = SiteLog(file)
    first = log.append("started")
    assert tail.new() == [first]
    assert LogTail(file).new() == []
    second = log.append("stopped")
    with file.open("ab") as stream:
        stream.write(b"rubbish\n{half")
    assert tail.new() == [second]
    assert tail.new() == []


def site(tmp_path: Path, command: list[str], **more: object) -> Path:
    file = tmp_path / "site.yaml"
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in more.items())
    file.write_text(f"{BASE}on_event: {json.dumps(command)}\n{lines}")
    return file


SAVE = "import os, sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read() + b'\\n')"


def test_the_command_gets_the_event_on_its_standard_input(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "x")
    told, odd = tmp_path / "told", "$(touch here); `id`"
    code = SAVE + "; open(sys.argv[1] + '.env', 'w').write(repr(sys.argv[2:]) + repr(os.environ))"
    policy = load_policy(site(tmp_path, [sys.executable, "-c", code, str(told), odd]))
    run_command(policy, entry("refused", reason="'; touch here #"))
    assert json.loads(told.read_bytes()) == {
        "site": "munich",
        "number": 7,
        "time": "2026-11-30T12:03:01.500+00:00",
        "event": "refused",
        "details": {"reason": "'; touch here #"},
        "previous": "0" * 64,
        "hash": "1" * 64,
    }
    environment = (tmp_path / "told.env").read_text()
    assert environment.startswith(repr([odd]))
    assert "SECRET_OF_THE_SHELL" not in environment
    assert not (tmp_path / "here").exists()


def test_alerts_are_of_the_kinds_that_the_policy_names_as_it_is_now(tmp_path):
    told = tmp_path / "told"
    command = [sys.executable, "-c", SAVE, str(told)]
    file = site(tmp_path, command, on_event_kinds=["refused"])
    both = Alerts(file)
    both.tell(entry("left"))
    both.tell(entry("refused"))
    both.finish(20)
    assert [json.loads(line)["event"] for line in told.read_bytes().splitlines()] == ["refused"]
    site(tmp_path, command, on_event_kinds=["left"])
    both.tell(entry("left"))
    both.finish(20)
    assert len(told.read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('no pager \\x1b[2J')", "exit code 1: no pager"),
        ("import time; time.sleep(30)", "timed out"),
    ],
)
def test_a_command_that_fails_or_hangs_is_in_the_log_and_costs_nothing(
    tmp_path, monkeypatch, code, reason
):
    monkeypatch.setattr(alerts, "_SECONDS", 1.5)
    file = site(tmp_path, [sys.executable, "-c", code])
    told = Alerts(file)
    told.tell(entry("refused"))
    told.finish(20)
    (found,) = SiteLog(load_policy(file).log_file).entries()
    assert (found.event, found.details["of"], found.details["number"]) == (
        "alert-failed",
        "refused",
        7,
    )
    assert reason in found.details["reason"]
    assert "\x1b" not in found.details["reason"]
    told.tell(entry(alerts.FAILED))  # of which there is no alert
    assert told._queue.empty()


def test_too_many_that_wait_are_told_as_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(alerts, "_WAITING", 1)
    file = site(tmp_path, [sys.executable, "-c", "import time; time.sleep(3)"])
    told = Alerts(file)
    for _ in range(4):
        told.tell(entry("refused"))
    log = SiteLog(load_policy(file).log_file)
    wait_until(lambda: len(list(log.entries())) >= 2, what="failures", timeout=10)
    assert "alerts are waiting" in next(log.entries()).details["reason"]


def test_a_program_that_is_not_there_is_named_before_the_site_starts(tmp_path):
    for command in (["no-such-program-here"], ["./page.sh"], ["/nowhere/page"]):
        with pytest.raises(ConfigError, match=r"on_event=.* is no program here"):
            _check_command(load_policy(site(tmp_path, command)))
    (tmp_path / "page.sh").write_text("#!/bin/sh\n")
    (tmp_path / "page.sh").chmod(0o700)
    _check_command(load_policy(site(tmp_path, ["./page.sh"])))
    _check_command(load_policy(site(tmp_path, ["sh", "-c", "true"])))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("on_event: page.sh", "on_event='page.sh'; expected a list of str"),
        ("on_event: [3]", "expected a list of str"),
        ('on_event: ["a\\0b"]', "expected a program and its arguments"),
        ("on_event_kinds: [arrived]", "on_event_kinds=arrived; expected one of started"),
    ],
)
def test_a_wrong_alert_is_one_sentence(tmp_path, line, words):
    with pytest.raises(ConfigError) as found:
        parse_policy(f"{BASE}{line}\n", folder=tmp_path)
    assert words in str(found.value)
