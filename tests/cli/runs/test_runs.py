import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from primia_flwr.cli.command import call
from primia_flwr.cli.runs import list as runs_list
from primia_flwr.cli.runs import log, stop
from primia_flwr.config.load import compose_experiment, to_yaml
from primia_flwr.flower.submitted import Submitted, submitted
from primia_flwr.provisioning import nodes
from primia_flwr.runs.history import append_event
from primia_flwr.storage.atomic import write_result


def make_run(
    folder: Path, *, status="running", started="2026-11-21T12:00:00+01:00", sent=None, **deployment
):
    (folder / "flower").mkdir(parents=True)
    experiment = compose_experiment(["federation.rounds=7"])
    if deployment:
        experiment = replace(
            experiment, deployment=replace(experiment.deployment, kind="deployment", **deployment)
        )
    (folder / "config.yaml").write_text(to_yaml(experiment))
    write_result(folder / "run.json", {"name": "demo", "status": status, "started": started})
    append_event(folder, "round_finished", round=1, train_loss=0.7)
    append_event(folder, "round_finished", round=2, train_loss=0.5, val_mcc=None)
    if sent:
        sent.write(folder / "flower")
    return folder


def at_home(superlink="127.0.0.1:9"):
    return {
        "name": "fl",
        "superlink": superlink,
        "root_certificates": "ca.crt",
        "roster": "roster.yaml",
    }


def answer(command, arguments, capsys):
    code = call(command, arguments)
    caught = capsys.readouterr()
    return code, json.loads(caught.out.splitlines()[-1]) if caught.out else {}, caught


def test_runs_are_listed_with_what_goes_on_and_what_does_not(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    day = tmp_path / "outputs" / "2026-11-21"
    make_run(day / "a", sent=Submitted.by_this_process(77))
    make_run(day / "b", status="finished", started="2026-11-22T12:00:00+01:00")
    gone = Submitted(78, psutil.Process().pid, 1.0)  # the number was given to another process
    make_run(day / "sweep" / "0", sent=gone, started="2026-11-20T12:00:00+01:00", **at_home())
    (day / "c").mkdir()
    (day / "c" / "run.json").write_text("{")  # no run
    code, found, caught = answer(runs_list.COMMAND, [], capsys)
    assert code == 0
    shown = [(r["run"], r["status"], r["rounds"], r["of"], r["run_id"]) for r in found["runs"]]
    assert shown == [
        ("outputs/2026-11-21/b", "finished", 2, 7, ""),
        ("outputs/2026-11-21/a", "running", 2, 7, "77"),
        ("outputs/2026-11-21/sweep/0", "interrupted", 2, 7, "78"),
    ]
    assert [r["federation"] for r in found["runs"]] == ["", "", "fl"]
    assert "go on with primia train resume=outputs/2026-11-21/sweep/0" in caught.out


def test_a_superlinks_runs_are_joined_by_number(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        runs_list, "_at_superlink", lambda name: {"78": "running", "99": "finished:completed"}
    )
    make_run(tmp_path / "a", sent=Submitted(78, 1, 1.0), **at_home())
    _, found, caught = answer(runs_list.COMMAND, [str(tmp_path), "name=fl"], capsys)
    assert [run.get("superlink") for run in found["runs"]] == ["running", "finished:completed"]
    assert "run 99," in caught.out


def test_a_run_of_this_machine_is_stopped_as_by_ctrl_c(tmp_path, capsys):
    # whoever starts the tests in the background has the signal ignored, in all children
    code = "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "try:\n    print(1, flush=True)\n    time.sleep(60)\n"
    code += "except KeyboardInterrupt:\n    pass\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        sent = Submitted(77, child.pid, psutil.Process(child.pid).create_time())
        folder = make_run(tmp_path / "a", sent=sent)
        status, found, _ = answer(stop.COMMAND, [str(folder), "wait=20"], capsys)
    assert (status, found["stopped"], child.returncode) == (0, "the process that watched it", 0)


@pytest.fixture
def superlink(monkeypatch):
    """A SuperLink with one run, 78, and what it was told to stop."""
    states, told = {"78": "running"}, []
    monkeypatch.setattr(nodes, "runs_at", lambda *place: dict(states))
    monkeypatch.setattr(stop, "runs_at", lambda *place: dict(states))

    class Client:
        def StopRun(self, request):
            told.append(request.run_id)

    @contextmanager
    def control(superlink, ca, federation):
        yield Client()

    monkeypatch.setattr(nodes, "_control", control)
    return states, told


def test_a_run_whose_process_has_gone_is_stopped_at_the_superlink(tmp_path, capsys, superlink):
    states, told = superlink
    folder = make_run(tmp_path / "a", sent=Submitted(78, 1, 1.0), **at_home())
    code, found, _ = answer(stop.COMMAND, [str(folder)], capsys)
    assert (code, found["stopped"], told) == (0, "at the SuperLink", [78])
    states["78"] = "finished:stopped"
    assert call(stop.COMMAND, [str(folder)]) == 2
    assert "is interrupted; expected a run that goes on" in capsys.readouterr().err
    assert told == [78]


def test_a_finished_run_is_not_asked_for_at_a_superlink_that_is_off(tmp_path, capsys):
    folder = make_run(tmp_path / "a", status="finished", sent=Submitted(78, 1, 1.0), **at_home())
    assert call(stop.COMMAND, [str(folder)]) == 2
    assert "is finished; expected a run that goes on" in capsys.readouterr().err


def test_a_run_without_a_folder_is_stopped_by_its_number(capsys, monkeypatch, superlink):
    states, told = superlink
    section = compose_experiment().deployment
    monkeypatch.setattr(stop, "deployment_of", lambda name: replace(section, superlink="a:1"))
    number = str(2**64 - 1)
    states[number] = "running"
    code, found, _ = answer(stop.COMMAND, [number, "name=fl"], capsys)
    assert (code, found["run_id"], told) == (0, number, [2**64 - 1])
    states[number] = "finished:completed"
    for words in ([number], ["77"], ["outputs/a"]):
        assert call(stop.COMMAND, [*words, "name=fl"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert f"run {number} is finished:completed at superlink=a:1; expected a run that" in first
    assert "run 77 is unknown at superlink=a:1" in second
    assert "expected the run's number at the SuperLink" in third
    assert len(told) == 1


@pytest.mark.parametrize("command", [stop.COMMAND, log.COMMAND])
def test_what_is_no_run_is_one_sentence(command, tmp_path, capsys):
    assert call(command, []) == 2
    assert call(command, [str(tmp_path)]) == 2
    folder = make_run(tmp_path / "a")
    (folder / "flower" / "submitted.json").write_text('{"run_id": "x", "pid": 1, "began": 1.0}')
    assert call(command, [str(folder)]) == 2
    (folder / "config.yaml").write_text("federation: 3")
    assert call(command, [str(folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("error: ") for line in lines)


def test_the_log_shows_events_and_why_a_run_ended(tmp_path, capsys):
    folder = make_run(tmp_path / "a", status="failed")
    (folder / "logs").mkdir()
    (folder / "logs" / "flower.log").write_text("one\n\x1b[92mINFO\x1b[0m: two\n")
    write_result(folder / "error.json", {"error": "round 3: 0 good updates"})
    code, found, caught = answer(log.COMMAND, [str(folder), "last=1"], capsys)
    assert (code, found["error"]) == (0, "round 3: 0 good updates")
    lines = caught.out.splitlines()[:-1]
    assert lines[0].endswith("round_finished round=2 train_loss=0.5")
    assert lines[1:] == ["one", "INFO: two", "error: round 3: 0 good updates"]


def test_what_was_submitted_comes_back(tmp_path):
    assert submitted(tmp_path) is None
    (tmp_path / "flower").mkdir()
    own = Submitted.by_this_process(2**63 + 5)
    own.write(tmp_path / "flower")
    found = submitted(tmp_path)
    assert found == own
    assert own.process() == psutil.Process()
    assert replace(own, began=own.began - 100).process() is None
    assert replace(own, pid=-1).process() is None
