"""The signals that ask a program to stop."""

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return Ctrl-C, SIGTERM and a closed terminal; not the last one under `nohup`.

    Ctrl-C counts where a shell has it ignored, too, as in a script's background job: it is how
    `primia runs stop` asks.
    """
    always = (signal.SIGINT, signal.SIGTERM)
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return always if outlives else (*always, signal.SIGHUP)
