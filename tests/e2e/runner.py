"""Whole-system cases: the real command line, real Flower processes, tiny images and models."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psutil

from primia_flwr.cli.main import run

TINY = (
    "data.synthetic.patients=60",
    "data.image_size=32",
    "model=simpleconv",
    "training.batch_size=16",
    "tracking=disabled",
    "training.threads=1",
)


class Primia:
    """Runs `primia` in a folder of its own, as a user would."""

    def __init__(self, folder: Path, *, python: Path = Path(sys.executable)) -> None:
        self.folder = folder
        self._python = str(python)

    def command(self, *arguments: str) -> list[str]:
        return [self._python, "-m", "primia_flwr.cli.main", *arguments]

    def __call__(self, *arguments: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def last_json(output: str) -> dict[str, Any]:
    value = json.loads(output.strip().splitlines()[-1])
    assert isinstance(value, dict)
    return value


def events(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return processes whose command line, folder or Flower home lies in `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        if process.pid == os.getpid():
            continue
        try:
            texts: Sequence[str] = [*(process.info["cmdline"] or []), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(folder) in text for text in texts):
            found.append(process)
    return found


def wait(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def killed_launcher(primia: Primia, run_dir: Path, *arguments: str) -> None:
    """Run `primia` over real processes into `run_dir`, and kill the launcher after a round."""
    launcher = primia.start(*arguments, f"output_dir={run_dir}")
    wait(lambda: any(event["event"] == "round_finished" for event in events(run_dir)))
    launcher.kill()
    launcher.communicate()
    wait(lambda: not processes_of(primia.folder), 60)


def called(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `primia` in this process: what it starts are processes all the same."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


class InProcess(Primia):
    """Runs `primia` in this process, in a folder of its own."""

    def __call__(self, *arguments: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        with contextlib.chdir(self.folder):
            return called(*arguments)
