"""The signals that ask a program to stop."""

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return Ctrl-C, SIGTERM and a closed terminal, but for what is ignored, as `nohup` has it."""
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return tuple(one for one in asked if signal.getsignal(one) is not signal.SIG_IGN)
