"""Alerts by a command of the hospital's own: `on_event` of its policy, JSON on standard input.

No shell reads it, and nothing that came from elsewhere stands on its command line. It runs beside
the site: one that fails or hangs costs the site nothing, and the failure is in the log.
"""

import json
import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.site.log import LogEntry, SiteLog
from primia_flwr.site.policy import SitePolicy, load_policy
from primia_flwr.storage.printable import printable

FAILED = "alert-failed"  # the event, of which there is no alert
_SECONDS = 60.0  # that a command has
_WAITING = 100  # alerts at most; what comes beyond is told as failed
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ")


class Alerts:
    """Runs the command for one entry after the other, in a thread of its own.

    The policy is read anew for each, so that an edit counts at once.
    """

    def __init__(self, policy_file: Path) -> None:
        self._policy_file = policy_file
        self._queue: queue.Queue[LogEntry] = queue.Queue(_WAITING)
        threading.Thread(target=self._work, daemon=True).start()

    def tell(self, entry: LogEntry) -> None:
        """Have the command run for an entry, if the policy wants one; returns at once."""
        if entry.event == FAILED:
            return
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self._failed(entry, f"{_WAITING} alerts are waiting for the command")

    def finish(self, patience: float = 5.0) -> None:
        """Give the alerts that wait some time to go out."""
        waiting = threading.Thread(target=self._queue.join, daemon=True)
        waiting.start()
        waiting.join(patience)

    def _work(self) -> None:
        while True:
            entry = self._queue.get()
            try:
                policy = load_policy(self._policy_file)
                if policy.on_event and entry.event in policy.on_event_kinds:
                    run_command(policy, entry)
            except (PrimiaError, OSError, subprocess.SubprocessError) as error:
                self._failed(entry, str(error))
            finally:
                self._queue.task_done()

    def _failed(self, entry: LogEntry, reason: str) -> None:
        try:
            log = SiteLog(load_policy(self._policy_file).log_file)
            log.append(FAILED, number=entry.number, of=entry.event, reason=reason)
        except (PrimiaError, OSError) as error:
            print(f"[alert] {printable(str(error), limit=_KEPT_TEXT)}", flush=True)


_KEPT_TEXT = 300


def run_command(policy: SitePolicy, entry: LogEntry) -> None:
    """Run the site's command for an entry: its JSON on standard input, no shell.

    Raises
    ------
    ConfigError
        If it ends with an exit code other than 0.
    OSError, SubprocessError
        If it cannot be started, or does not end within a minute.
    """
    done = _run(policy, json.dumps({"site": policy.site, **vars(entry)}).encode("ascii"))
    if done.returncode:
        said = printable(done.stderr.decode("utf-8", "replace"), limit=_KEPT_TEXT)
        raise ConfigError(f"on_event ended with exit code {done.returncode}: {said}")


def _run(policy: SitePolicy, told: bytes) -> subprocess.CompletedProcess[bytes]:
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    return subprocess.run(
        command_of(policy),
        input=told,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=policy.folder,
        timeout=_SECONDS,
        check=False,
        start_new_session=True,
    )


def command_of(policy: SitePolicy) -> Sequence[str]:
    """Return the command line; a program with a `/` lies where the policy says."""
    program, *arguments = policy.on_event
    place = str(policy.path(program)) if "/" in program else program
    return [place, *arguments]
