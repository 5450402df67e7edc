import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from primia_flwr.config.experiment.deployment import DeploymentConfig, check_address
from primia_flwr.errors import ConfigError, FederationError
from primia_flwr.flower import command as flower
from primia_flwr.messages.refusals import failure_reason, refusal_reason
from primia_flwr.processes.children import (
    Child,
    Children,
    check_port_free,
    flower_environment,
    free_port,
    isolated_module,
    wait_until,
)
from primia_flwr.processes.programs import flower_program
from primia_flwr.provisioning.federation import Plan, provision
from primia_flwr.provisioning.nodes import node_states


def child(folder: Path, code: str) -> Child:
    return Child(
        "child",
        [sys.executable, "-c", code],
        log_file=folder / "logs" / "child.log",
        environment=dict(os.environ),
        folder=folder,
    )


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_no_grandchild_is_left(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    with Children() as children:
        first = children.add(child(tmp_path, code))
        wait_until(lambda: first.log_tail() != "", what="its pid", timeout=20, child=first)
        grandchild = int(first.log_tail())
        assert alive(grandchild)
    end = time.monotonic() + 5
    while alive(grandchild) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(grandchild)
    assert first.poll() is not None


def test_child_that_ends_early_is_quoted(tmp_path: Path) -> None:
    early = child(tmp_path, "print('no such file'); raise SystemExit(3)")
    with pytest.raises(FederationError, match=r"exit code 3 before it was up; .*no such file"):
        wait_until(lambda: False, what="it was up", timeout=20, child=early)


def test_waiting_has_an_end() -> None:
    with pytest.raises(FederationError, match="took more than 0 s"):
        wait_until(lambda: False, what="nothing", timeout=0.2)


def test_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(FederationError, match=rf"port={port}; expected a free port.*in use"):
            check_port_free("127.0.0.1", port, key="port")
    check_port_free("127.0.0.1", free_port(), key="port")


def test_isolated_child_ignores_the_environment_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "yaml.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = isolated_module("primia_flwr.site.bundle.approval", "no.yaml", "no.fab")
    started = Child(
        "approval",
        command,
        log_file=tmp_path / "log",
        environment=dict(os.environ),
        folder=tmp_path,
    )
    wait_until(lambda: started.poll() is not None, what="its end", timeout=30)
    assert "shadowed" not in started.log_tail()


def test_flower_environment_phones_nobody(
    tmp_path: Path, coloured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", "/elsewhere")
    monkeypatch.setenv("PYTHONSTARTUP", "/elsewhere")
    environment = flower_environment(tmp_path)
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert "PYTHONSTARTUP" not in environment
    for name in COLOURED:
        assert name not in environment


COLOURED = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_COMPATIBLE")


@pytest.fixture
def coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook: programs are asked to colour what they write into a pipe."""
    for name in COLOURED:
        monkeypatch.setenv(name, "1")


def test_flowers_answer_is_read_where_everything_is_coloured(
    tmp_path: Path, coloured: None
) -> None:
    with pytest.raises(FederationError, match=r"^flwr list run failed: ") as caught:
        flower.Connection(tmp_path, "127.0.0.1:9").status(1)
    assert "\x1b" not in str(caught.value)
    with pytest.raises(FederationError, match="flower-nothing not found"):
        flower_program("flower-nothing")


def test_refusals_are_told_from_failures() -> None:
    refusal = "<class 'primia_flwr.errors.PolicyRefusal'>:<'site a refuses: it's late'>"
    failure = "<class 'ValueError'>:<'bad\nvalue'>"
    assert refusal_reason(refusal) == "site a refuses: it's late"
    assert refusal_reason(failure) is None
    assert refusal_reason("PolicyRefusal") is None
    assert failure_reason(failure) == "ValueError: bad value"
    assert failure_reason("node  is gone") == "node is gone"


def test_the_sentence_of_a_simulated_sites_error_is_found_in_its_traceback() -> None:
    for newline in ("\n", "\\n"):
        text = newline.join(
            [
                "<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'ray::run()",
                "primia_flwr.errors.ConfigError: the first of two",
                "primia_flwr.errors.DataError: ledger.jsonl ends at entry 3; put it back",
                "The above exception was the direct cause'>",
            ]
        )
        expected = "DataError: ledger.jsonl ends at entry 3; put it back"
        assert failure_reason(text) == expected


def test_unreachable_superlink_is_one_sentence(tmp_path: Path) -> None:
    port = free_port()
    federation = provision(Plan("fl", ["a"], "127.0.0.1", port), tmp_path / "fl")
    with pytest.raises(FederationError, match=rf"superlink=127\.0\.0\.1:{port} cannot be reached"):
        node_states(f"127.0.0.1:{port}", federation.files.ca, federation.roster)
    with pytest.raises(FederationError, match="cannot be used"):
        node_states(f"127.0.0.1:{port}", tmp_path / "no.crt", federation.roster)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kind": "real"}, "deployment.kind=real"),
        ({"isolation": "thread"}, "deployment.isolation=thread"),
        ({"name": "../fl"}, "deployment.name="),
        ({"kind": "deployment"}, "deployment.superlink=''"),
        ({"kind": "deployment", "superlink": "a:1"}, "deployment.root_certificates=''"),
        (
            {"kind": "deployment", "superlink": "a:1", "root_certificates": "x"},
            "deployment.roster=''",
        ),
    ],
)
def test_deployment_mistakes_name_the_key(keys: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DeploymentConfig(**keys)  # type: ignore[arg-type]
    assert words in str(caught.value)


@pytest.mark.parametrize("value", ["h:1", "fl.example.org:65535", "[::1]:9391"])
def test_addresses(value: str) -> None:
    check_address("superlink", value)


def test_the_tail_of_a_log_is_that_of_the_child_and_not_of_one_before(tmp_path: Path) -> None:
    for text in ("first", "second"):
        started = child(tmp_path, f"print({text!r})")
        wait_until(lambda c=started: c.poll() is not None, what="the child's end", timeout=20)
        assert started.log_tail() == text
    assert (tmp_path / "logs" / "child.log").read_text() == "first\nsecond\n"


def test_a_command_of_flower_that_does_not_end_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flower, "_COMMAND_SECONDS", 0.02)
    with pytest.raises(FederationError, match=r"flwr list run did not end within 0\.02 s; .*:9;"):
        flower.Connection(tmp_path, "127.0.0.1:9").status(1)


def test_a_process_that_waits_for_a_lock_ends_with_its_parent(tmp_path: Path) -> None:
    waiting = (
        "import threading; from primia_flwr.processes.children import end_with_parent; "
        "end_with_parent(0.5); print('ready', flush=True); threading.Event().wait()"
    )
    parent = (
        "import subprocess, sys, time; "
        f"p = subprocess.Popen([sys.executable, '-c', {waiting!r}], stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(0.1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True, timeout=60
    )
    pid = int(done.stdout)
    wait_until(lambda: not alive(pid), what="the end of the orphan", timeout=20)
