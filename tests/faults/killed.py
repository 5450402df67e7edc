"""A process that is killed (SIGKILL) before one of its system calls on files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

CALLS = ("write", "fsync", "replace", "open", "ftruncate", "close", "unlink")


def run_killed(work: Callable[[], object], at: int) -> bool:
    """Work in a process that is killed before call number `at`; say whether it was.

    A write that is killed leaves half of its bytes.
    """
    child = os.fork()
    if child == 0:
        try:
            _kill_before(at)
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "an error instead of a kill"
    return os.WIFSIGNALED(status)


def _kill_before(at: int) -> None:
    left = at

    def around(name: str, call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                if name == "write":
                    call(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapped

    for name in CALLS:
        setattr(os, name, around(name, getattr(os, name)))
