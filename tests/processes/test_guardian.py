"""The guardian leaves nothing behind: neither orphans nor its folder, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from primia_flwr.processes.children import isolated_module

# Starts a grandchild in a session of its own, says its id, and ends or waits.
ORPHAN_MAKER = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(7)
"""


def guarded(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = isolated_module(
        "primia_flwr.processes.guardian",
        str(folder),
        sys.executable,
        "-c",
        ORPHAN_MAKER,
        str(seconds),
    )
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def is_gone(pid: int) -> bool:
    end = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "temporary"
    made.mkdir()
    (made / "file").write_text("x")
    return made


def test_orphans_end_with_the_command(folder: Path) -> None:
    guardian = guarded(folder, 0.2)
    orphan = first_line(guardian)
    assert guardian.wait(20) == 7
    assert is_gone(orphan)
    assert not folder.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's subreaper")
def test_sigterm_ends_the_whole_family(folder: Path) -> None:
    guardian = guarded(folder, 300)
    orphan = first_line(guardian)
    guardian.send_signal(signal.SIGTERM)
    guardian.wait(20)
    assert is_gone(orphan)
    assert not folder.exists()
