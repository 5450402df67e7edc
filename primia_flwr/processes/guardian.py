"""A guardian around one command: when it or its starter ends, nothing the command started stays.

Flower's simulation engine starts Ray, whose processes survive the death of those that started
them by half a minute or more. The guardian adopts every orphan below it (Linux: it is the
"child subreaper"), so ending its descendants ends them all, whoever was killed before. Then
it deletes their temporary folder.
"""

import ctypes
import shutil
import signal
import subprocess
import sys
import threading

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_GRACE = 5.0  # seconds between asking and killing


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> int:
    """Run a command; return its exit code once nothing of it is left.

    Arguments: a temporary folder that is deleted at the end, then the command.
    """
    folder, *command = sys.argv[1:]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = subprocess.Popen(command)
    while process.poll() is None and not stop.wait(0.1):
        pass
    if process.poll() is None:
        _end(process)
    _end_descendants()
    shutil.rmtree(folder, ignore_errors=True)
    return process.wait()


def _end_descendants() -> None:
    """End all that is left, twice: a process may start another while it is being ended."""
    for _ in range(2):
        family = psutil.Process().children(recursive=True)
        for member in family:
            _send(member, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=1.0)
        for member in alive:
            _send(member, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=_GRACE)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
