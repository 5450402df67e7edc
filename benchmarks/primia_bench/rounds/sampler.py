"""Books this process's processor time to the lines that spend it; copied into a profiled run.

A thread looks every 10 ms at every thread's stack, and books to it what the operating system says
that the thread has computed since. Waiting costs nothing, so it is not seen. Imports nothing that a
process does not have anyway; `profiled` starts it in every process of the run.
"""

import atexit
import json
import os
import sys
import threading
import time
from types import FrameType

_PERIOD, _WRITTEN_EVERY = 0.01, 1.0
_folder = ""
_booked: dict[str, float] = {}
_writing = threading.Lock()


def start(folder: str) -> None:
    """Sample this process, and those forked from it, into files of `folder`."""
    global _folder
    if _folder:
        return  # a .pth file may be read twice
    _folder = folder
    os.register_at_fork(after_in_child=_begin)
    atexit.register(_write)
    leave = os._exit

    def write_and_leave(status: int) -> None:
        _write()
        leave(status)

    os._exit = write_and_leave  # type: ignore[assignment]
    _begin()


def _begin() -> None:
    global _writing
    _booked.clear()
    _writing = threading.Lock()  # a fork may have been made of a process that wrote
    threading.Thread(target=_run, daemon=True, name="sampler").start()


def _run() -> None:
    own, seen, written = threading.get_ident(), dict[int, float](), time.monotonic()
    while True:
        time.sleep(_PERIOD)
        for thread, frame in sys._current_frames().items():
            now = time.clock_gettime(time.pthread_getcpuclockid(thread))
            spent, seen[thread] = now - seen.get(thread, 0.0), now
            if spent > 0 and thread != own:
                stack = _stack(frame)
                _booked[stack] = _booked.get(stack, 0.0) + spent
        if time.monotonic() - written > _WRITTEN_EVERY:
            written = time.monotonic()
            _write()


def _stack(frame: FrameType | None) -> str:
    names = []
    while frame is not None:
        names.append(f"{frame.f_code.co_name} ({frame.f_code.co_filename})")
        frame = frame.f_back
    return ";".join(reversed(names))


def _write() -> None:
    """Write what was booked so far, whole or not at all."""
    path = os.path.join(_folder, f"{os.getpid()}.json")
    try:
        with open("/proc/self/cmdline", "rb") as file:  # as a process that renamed itself is called
            command = file.read(400).replace(b"\0", b" ").decode(errors="replace")
        with _writing, open(path + ".part", "w") as file:
            json.dump([command, time.process_time(), dict(_booked)], file)
            file.flush()
            os.replace(path + ".part", path)
    except (OSError, RuntimeError):
        return  # the folder has gone with the run, or a process that may not write into it
