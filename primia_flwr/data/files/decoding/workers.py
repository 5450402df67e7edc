"""Processes that decode compressed images, so that only they die of a damaged one.

Each calling thread has one to itself while it waits. They are started when first needed, used
again, and end with this process: their standard input does. A fork of this process starts its own.
"""

import atexit
import io
import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding.stored import Array, Words
from primia_flwr.errors import DataError
from primia_flwr.processes.children import isolated_module

SECONDS = 60.0
"""Longest that one image may take."""
_MODULE = "primia_flwr.data.files.decoding.worker"
_MEMORY, _MEMORY_PER_BYTE = 384 << 20, 24
_IMAGES_EACH = 1000  # damaged ones leave memory behind
_LONGEST_LINE = 1 << 16


class _Worker:
    """One process, and the pipes to and from it."""

    def __init__(self) -> None:
        self.left = _IMAGES_EACH
        self._process = subprocess.Popen(
            isolated_module(_MODULE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # a buffer has a lock, and would be written twice by a fork
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        self._answers = cast(io.RawIOBase, self._process.stdout)

    def ask(self, request: bytes) -> tuple[dict[str, Any], Array] | str | None:
        """Return an array and what is told of it, why not, or None if the process has ended."""
        self.left -= 1
        with suppress(BrokenPipeError):
            self._requests.write(request)
        line = self._answers.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            return None
        answer = json.loads(line)
        if "refused" in answer:
            return str(answer["refused"])
        pixels = np.empty(answer["shape"], answer["dtype"])
        rest = pixels.data.cast("B")
        while rest and (count := self._answers.readinto(rest)):
            rest = rest[count:]
        return None if rest else (answer, pixels)

    def end(self) -> int:
        """End the process, wait for it, and return its exit code; negative for a signal."""
        self.close()
        try:
            return self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def has_ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """Close the pipes, of which the process ends when it next looks."""
        for pipe in (self._requests, self._answers):
            with suppress(OSError):
                pipe.close()


_idle: list[_Worker] = []
_busy: set[_Worker] = set()
_lock = threading.Lock()


def decode(path: Path, *, size: int) -> npt.NDArray[np.uint8]:
    """Decode and show a compressed DICOM file in another process.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Bytes of its pixels as its header has them, by which the memory is allowed.

    Raises
    ------
    DataError
        If it is refused, or the process died, or ran out of time or memory.
    """
    return _ask(path, size, stored=False)[1]


def stored_values(path: Path, *, size: int) -> tuple[Words, str]:
    """Decode a file as `decode`; return its words, and their photometric interpretation."""
    told, pixels = _ask(path, size, stored=True)
    words = Words(pixels, told["stored"], told["shift"], told["signed"])
    return words, str(told["photometric"])


def _ask(path: Path, size: int, *, stored: bool) -> tuple[dict[str, Any], Array]:
    memory = _MEMORY + _MEMORY_PER_BYTE * size
    request = json.dumps([stored, os.fsencode(path.absolute()).hex(), memory, SECONDS]) + "\n"
    worker = _take()
    try:
        answer = worker.ask(request.encode())
    except BaseException:
        worker.kill()
        _drop(worker)
        raise
    if answer is None:
        raise DataError(f"{path}: {_why(_drop(worker))}")
    _give_back(worker)
    if isinstance(answer, str):
        raise DataError(answer)
    return answer


def end_idle() -> None:
    """End the processes that wait for work."""
    with _lock:
        idle = list(_idle)
        _idle.clear()
    for worker in idle:
        worker.close()
    for worker in idle:
        worker.end()


def end_all() -> None:
    """End all processes, also those at work."""
    with _lock:
        busy = list(_busy)
        _busy.clear()
    for worker in busy:
        worker.kill()
        worker.end()
    end_idle()


def _take() -> _Worker:
    """Return a process that waits for work, or a new one; those that died waiting are left out."""
    worker = None
    while worker is None or worker.has_ended():
        with _lock:
            worker = _idle.pop() if _idle else None
        worker = worker or _Worker()
    with _lock:
        _busy.add(worker)
    return worker


def _give_back(worker: _Worker) -> None:
    with _lock:
        _busy.discard(worker)
        if worker.left > 0:
            _idle.append(worker)
    if worker.left <= 0:
        worker.end()


def _drop(worker: _Worker) -> int:
    with _lock:
        _busy.discard(worker)
    return worker.end()


def _why(code: int) -> str:
    expected = "expected an intact DICOM image: export it again, uncompressed"
    if code == -signal.SIGALRM:
        return f"was not decoded within {SECONDS:g} s; {expected}"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"its decoder died of it ({name}); {expected}"


def _forget() -> None:
    """Leave the parent's processes to the parent, in a fork of it."""
    global _lock
    for worker in (*_idle, *_busy):
        worker.close()
    _idle.clear()
    _busy.clear()
    _lock = threading.Lock()


atexit.register(end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
