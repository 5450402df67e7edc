"""A process that decodes compressed DICOM files for its parent, and may die of one.

    python -I -c … primia_flwr.data.files.decoding.worker

Reads a request a line from its standard input, and ends with it: [whether the stored values are
asked for, path, bytes of memory, seconds]. Answers each with a line, {"shape": …, "dtype": …, …}
or {"refused": …}, and after a shape with as many bytes.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

from primia_flwr.data.files.decoding.show import decode_compressed, stored_compressed
from primia_flwr.errors import DataError


def main() -> int:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders print; what they say must not get between the answers
    for line in sys.stdin.buffer:
        stored, path, memory, seconds = json.loads(line)
        _limit_memory(memory)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # ends this process, in whatever code it is
        _answer(Path(os.fsdecode(bytes.fromhex(path))), stored, answers)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.flush()
    return 0


def _answer(path: Path, stored: bool, answers: BinaryIO) -> None:
    try:
        told, pixels = _stored(path) if stored else ({}, decode_compressed(path))
    except DataError as error:
        answers.write(json.dumps({"refused": str(error)}).encode() + b"\n")
    else:
        told |= {"shape": pixels.shape, "dtype": pixels.dtype.str}
        answers.write(json.dumps(told).encode() + b"\n")
        answers.write(pixels.data)


def _stored(path: Path) -> tuple[dict[str, Any], npt.NDArray[Any]]:
    words, photometric = stored_compressed(path)
    told = {"photometric": photometric, "stored": words.stored, "shift": words.shift}
    return {**told, "signed": words.signed}, words.pixels


def _limit_memory(more: int) -> None:
    """Allow so many bytes beyond those that the process has; Linux only."""
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
