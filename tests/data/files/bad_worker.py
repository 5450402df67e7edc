"""Stands in for a process that decodes: it dies of a file, takes too long, or answers rubbish."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main() -> int:
    for line in sys.stdin.buffer:
        _, path, _, seconds = json.loads(line)
        name = os.path.basename(os.fsdecode(bytes.fromhex(path)))
        if name == "dies.dcm":
            os.kill(os.getpid(), signal.SIGSEGV)
        if name == "slow.dcm":
            signal.setitimer(signal.ITIMER_REAL, seconds)
            time.sleep(60)
        if name == "half.dcm":
            sys.stdout.write('{"shape": [2, 2], "dtype": "|u1"}\nx')
            return 3
        sys.stdout.write('{"shape": [1, 2], "dtype": "|u1"}\nab')
        sys.stdout.flush()
    return 0
