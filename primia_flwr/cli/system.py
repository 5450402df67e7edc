"""What the system refuses, at the outermost place: a closed stream, a full disk, no such path."""

import errno
import os
import signal
import sys
from contextlib import suppress

from primia_flwr.errors import ConfigError

_BROKEN_PIPE = 128 + signal.SIGPIPE


def open_streams() -> None:
    """Give each standard stream that is closed to nobody, so that no file is taken for it.

    Raises
    ------
    ConfigError
        If the current folder is no more.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(
            f"the current folder cannot be used ({error.strerror}); expected one that is there: "
            "change to another one"
        ) from None


def refused(error: OSError | MemoryError) -> int:
    """Say in one sentence what the system refused, and return the exit code.

    Nothing is said where whoever read the output has gone, as in `primia ... | head`.
    """
    from primia_flwr.cli.command import mistake  # heavy

    if isinstance(error, BrokenPipeError):
        _leave_stdout()
        return _BROKEN_PIPE
    if isinstance(error, MemoryError):
        return mistake(ConfigError("the memory is full; expected more: close other programs"))
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):
        _leave_stdout()
    what = os.fsdecode(error.filename) if error.filename is not None else "a file or an output"
    return mistake(
        ConfigError(
            f"{what} cannot be used ({error.strerror or error}); expected a path, rights and space "
            "on the disk that allow it: correct them"
        )
    )


def _leave_stdout() -> None:
    """Let nobody have what is still to be written, since the end of Python writes it."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
