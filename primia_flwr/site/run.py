"""Run a site: Flower's SuperNode and the site's executor, until told to stop.

The SuperNode talks to the SuperLink (TLS, authenticated by the site's key) and to the executor
over loopback, guarded by a secret that is new at every start.
"""

import os
import re
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from primia_flwr.errors import ConfigError, FederationError, PrimiaError
from primia_flwr.processes.children import (
    Child,
    Children,
    flower_environment,
    free_port,
    isolated_module,
)
from primia_flwr.processes.proxies import through_proxy
from primia_flwr.processes.stop_signals import stop_signals
from primia_flwr.site.bundle.first_look import check_supernode
from primia_flwr.site.ended import NOT_ACTIVATED, why_ended
from primia_flwr.site.gate import check_flower
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import SitePolicy, load_policy
from primia_flwr.site.supernode import BELL
from primia_flwr.site.validity import AT_SITE, check_endings
from primia_flwr.site.watch.alerts import command_of
from primia_flwr.site.watch.staff import Staff
from primia_flwr.storage.atomic import PRIVATE, write_atomic, writing
from primia_flwr.storage.journal import JournalFile
from primia_flwr.storage.printable import printable

_POLL_SECONDS = 0.5
_SILENT_AFTER = 20.0
_LOOK_AT_CERTIFICATES = 24 * 3600.0
# A SuperLink takes a node whose machine lost power for connected until two heartbeats, 30 s
# each, are missing; so long it refuses the same key.
_FORGOTTEN_AFTER, _TRY_AGAIN = 90.0, 10.0


def _supernode_command(policy: SitePolicy, policy_file: Path, *, port: int) -> list[str]:
    """Return the command line of the site's SuperNode."""
    settings = f'site="{policy.site}" site-file="{policy_file}"'
    return [
        *isolated_module("primia_flwr.site.supernode", str(policy.state_folder / BELL)),
        *("--superlink", policy.superlink),
        *("--root-certificates", str(policy.path(policy.root_certificates))),
        *("--auth-supernode-private-key", str(policy.path(policy.supernode_key))),
        *("--isolation", "process"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--superexec-auth-secret-file", str(policy.state_folder / "executor.secret")),
        *("--node-config", settings),
    ]


def _executor_command(policy: SitePolicy, policy_file: Path, *, port: int) -> list[str]:
    """Return the command line of the site's executor."""
    return isolated_module(
        "primia_flwr.site.executor",
        *("--policy", str(policy_file)),
        *("--runtime-api-address", f"127.0.0.1:{port}"),
        *("--secret-file", str(policy.state_folder / "executor.secret")),
        *("--parent-pid", str(os.getpid())),
    )


def run_site(
    policy_file: Path, *, stop: threading.Event, say: Callable[[str], None] = print
) -> None:
    """Run the site until `stop` is set.

    Raises
    ------
    ConfigError
        If the policy is wrong.
    FederationError
        If a file of the kit is missing, a certificate has expired, another process runs the site
        already, this Flower has no place for the gate or the first look, or the SuperNode ends
        (wrong certificate, unregistered key).
    """
    policy_file = policy_file.resolve()
    policy = load_policy(policy_file)
    _check_path(policy_file)
    _check_command(policy)
    check_flower()
    check_supernode()
    _check_key_files(policy)
    with _only_one(policy):
        _run(policy, policy_file, stop, say)


def _only_one(policy: SitePolicy) -> JournalFile:
    """Keep the site's state for this process; a second one would take the first one's secret.

    Raises
    ------
    FederationError
        If another process has it, or it cannot be written.
    """
    folder = policy.state_folder
    with _writing_state(policy):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return JournalFile(folder / "running.lock", wait=0)
        except TimeoutError:
            raise FederationError(
                f"state={folder} is in use: `primia site run` runs for {policy.site} already; "
                "expected one for each site; stop that one first"
            ) from None


def _writing_state(policy: SitePolicy) -> AbstractContextManager[None]:
    remedy = (
        "expected a folder of this user's, on a disk with 2 GiB of room: free some, or correct "
        "state in site.yaml"
    )
    return writing(f"state={policy.state_folder}", error=FederationError, remedy=remedy)


def _run(
    policy: SitePolicy, policy_file: Path, stop: threading.Event, say: Callable[[str], None]
) -> None:
    secret = policy.state_folder / "executor.secret"
    log, staff = SiteLog(policy.log_file), Staff(policy, policy_file, say)
    with _writing_state(policy):
        write_atomic(secret, secrets.token_bytes(32), mode=PRIVATE)
        _check_certificates(policy)
        log.append("started", superlink=policy.superlink, pid=os.getpid())
    say(f"site {policy.site}: connecting to {policy.superlink}; logs in {_logs(policy)}")
    try:
        _connect(policy, policy_file, stop, staff)
    finally:
        log.append("stopped", superlink=policy.superlink, pid=os.getpid())
        staff.look()
        staff.alerts.finish()


def _connect(policy: SitePolicy, policy_file: Path, stop: threading.Event, staff: Staff) -> None:
    """Run SuperNode and executor; try again while the SuperLink holds an earlier connection."""
    started = time.monotonic()
    while True:
        try:
            with Children() as children:
                return _watch(policy, *_start(policy, policy_file, children), stop, staff)
        except _NotActivatedError:
            known = _connected_before(policy).exists()
            if not known or time.monotonic() - started > _FORGOTTEN_AFTER:
                raise
        staff.say(
            f"site {policy.site}: the SuperLink does not take this key yet; it may still hold a "
            "connection that a power cut ended; trying again"
        )
        if stop.wait(_TRY_AGAIN):
            return None


def _check_key_files(policy: SitePolicy) -> None:
    """Refuse missing files of the kit and private keys that other users may read."""
    for key in ("root_certificates", "supernode_key", "identity_key", "roster"):
        file = policy.path(getattr(policy, key))
        if not file.is_file():
            raise FederationError(
                f"{key}={file} not found; expected the file of the start-up kit; unzip it again"
            )
        mode = file.stat().st_mode & 0o777
        if key.endswith("_key") and mode & 0o077:
            raise FederationError(
                f"{key}={file} has mode {mode:o}; expected 600, readable by its owner only; run "
                f"chmod 600 {file}"
            )


def _check_certificates(policy: SitePolicy) -> None:
    """Refuse to go on with an expired certificate; log which ends within 30 days."""
    ca = policy.path(policy.root_certificates)
    for warning in check_endings(policy.superlink, ca, AT_SITE):
        SiteLog(policy.log_file).append("warning", text=warning)


def main() -> None:
    """Run the site whose policy file is the one argument, until it is asked to stop."""
    stop = threading.Event()
    for number in stop_signals():
        signal.signal(number, lambda *_: stop.set())
    try:
        run_site(Path(sys.argv[1]), stop=stop, say=lambda line: print(line, flush=True))
    except PrimiaError as error:
        print(f"error: {printable(str(error), limit=4000)}", file=sys.stderr, flush=True)
        sys.exit(2)


def _start(policy: SitePolicy, policy_file: Path, children: Children) -> tuple[Child, Child]:
    port = free_port()
    home = policy.state_folder / "flower"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = flower_environment(home)
    work = policy.state_folder / "work"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)

    def start(name: str, command: list[str]) -> Child:
        log_file = _logs(policy) / f"{name}.log"
        return children.add(
            Child(name, command, log_file=log_file, environment=environment, folder=work)
        )

    supernode = start("supernode", _supernode_command(policy, policy_file, port=port))
    executor = start("executor", _executor_command(policy, policy_file, port=port))
    return supernode, executor


def _watch(
    policy: SitePolicy, supernode: Child, executor: Child, stop: threading.Event, staff: Staff
) -> None:
    connected = told = False
    began = looked = time.monotonic()
    while not stop.wait(_POLL_SECONDS):
        if time.monotonic() - looked > _LOOK_AT_CERTIFICATES:
            looked = time.monotonic()
            _check_certificates(policy)
        staff.look()
        for child in (supernode, executor):
            if child.poll() is not None:
                kind = FederationError
                if child is supernode and re.search(NOT_ACTIVATED, child.log_tail(60)):
                    kind = _NotActivatedError
                raise kind(why_ended(policy, child))
        if not connected and "SuperNode ID:" in supernode.log_tail(200):
            connected = True
            _connected_before(policy).touch()
            staff.say(f"site {policy.site}: connected; waiting for messages")
        elif not (connected or told) and time.monotonic() - began > _SILENT_AFTER:
            told = True
            staff.say(
                f"site {policy.site}: no answer from {policy.superlink}"
                f"{through_proxy(policy.superlink)} yet; is the SuperLink running, and may this "
                "computer connect out to that port? trying on"
            )


def _check_path(policy_file: Path) -> None:
    if '"' in str(policy_file) or "'" in str(policy_file):
        raise FederationError(
            f"site={policy_file}; expected a path without quotation marks; move the folder"
        )


def _check_command(policy: SitePolicy) -> None:
    if policy.on_event and shutil.which(command_of(policy)[0]) is None:
        raise ConfigError(
            f"on_event={policy.on_event[0]} is no program here; expected one that may be run, with "
            "its arguments, e.g. on_event: [./page.sh]"
        )


def _connected_before(policy: SitePolicy) -> Path:
    """Return the file that says that the SuperLink once took this site's key."""
    return policy.state_folder / "connected-before"


class _NotActivatedError(FederationError):
    """The SuperLink does not take the SuperNode's key."""


def _logs(policy: SitePolicy) -> Path:
    return policy.state_folder / "logs"
