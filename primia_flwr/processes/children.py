"""Children that never outlive their parent: start, watch, stop, with a log file each.

Each child leads its own process group, so that its own children go with it, and the kernel
ends it when the parent dies without having cleaned up (Linux: strictly, when the thread that
started it ends, so start children from a thread that lasts).
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from primia_flwr.errors import FederationError
from primia_flwr.processes.memory import memory_settings
from primia_flwr.processes.programs import programs_folder
from primia_flwr.processes.waiting import waiting_settings

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
BUNDLE_VARIABLE = "PRIMIA_BUNDLE_SHA256"  # set by the gate, in the process of one message
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None

# `python -I` ignores PYTHON* variables and puts neither the working folder nor a user's
# site-packages on sys.path; the folder of this very package comes last, so that the child
# runs the copy of primia_flwr that started it.
_BOOT = (
    "import importlib, sys; "
    "sys.path.append(sys.argv[1]); "
    "module = importlib.import_module(sys.argv[2]); "
    "del sys.argv[1:3]; "
    "sys.exit(module.main())"
)


def isolated_module(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs `module.main()` in an isolated interpreter."""
    package_parent = Path(__file__).resolve().parents[2]
    return [sys.executable, "-I", "-c", _BOOT, str(package_parent), module, *arguments]


# What has programs colour text for no terminal, as a notebook asks of its own: JSON is read here.
_COLOUR = ("FORCE_COLOR", "CLICOLOR", "PY_COLORS", "TTY_")


def flower_environment(home: Path) -> dict[str, str]:
    """Return the environment of a Flower process: its own home, plain text, nothing phones home."""
    left_out = ("PYTHON", "FLWR_", *_COLOUR)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    return (
        environment
        | loopback_without_proxy(environment)
        | memory_settings()
        | waiting_settings()
        | {
            "PATH": f"{programs_folder()}{os.pathsep}{environment.get('PATH', '')}",
            "FLWR_HOME": str(home.resolve()),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        }
    )


def loopback_without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which what stays on this machine goes through no proxy."""
    names = ("NO_PROXY", "no_proxy")
    known = [one for name in names for one in environment.get(name, "").split(",") if one.strip()]
    text = ",".join(dict.fromkeys([*(one.strip() for one in known), *_LOOPBACK]))
    return dict.fromkeys(names, text)


def running_bundle() -> str:
    """Return the SHA-256 of the bundle that the site's gate admitted for this process.

    Nothing where no gate stands, as in a simulation.
    """
    return os.environ.get(BUNDLE_VARIABLE, "")


def available_cores() -> int:
    """Return the number of CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent(patience: float = 10.0) -> None:
    """End this process soon after its parent has ended.

    Flower's own monitor raises a signal in its own thread, which does not wake a main thread
    that waits for a lock: a ServerApp whose SuperLink is gone would then wait for ever.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Child:
    """One child process with its own process group and a log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name = name
        self.log_file = log_file
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with open(log_file, "ab", opener=_for_its_owner) as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process id, which is also the id of the process group."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while the child runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that this child has written; an earlier one's stay out."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, patience: float = 10.0) -> None:
        """Ask the child to end; after `patience` seconds end its process group."""
        if self.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Service:
    """Something that is started and stopped; as a context manager it never stays half-started."""

    def start(self) -> None:
        """Start; what was started is stopped again if this fails within a `with` block."""

    def stop(self) -> None:
        """Stop all of it; harmless where nothing runs."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Children(Service):
    """A context in which children are started and after which none is left."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def add(self, child: Child) -> Child:
        """Take a child into care and return it."""
        self._children.append(child)
        return child

    def stop(self) -> None:
        """Stop all, the youngest first."""
        while self._children:
            self._children.pop().stop()


def wait_until(
    ready: Callable[[], bool], *, what: str, timeout: float, child: Child | None = None
) -> None:
    """Wait until `ready()` is true.

    Raises
    ------
    FederationError
        If `child` ends first, or after `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while not ready():
        if child is not None and child.poll() is not None:
            raise FederationError(
                f"{child.name} ended with exit code {child.poll()} before {what}; "
                f"see {child.log_file}: {_last_words(child)}"
            )
        if time.monotonic() > end:
            raise FederationError(
                f"{what} took more than {timeout:.0f} s; expected it sooner; "
                f"see {child.log_file if child else 'the log files'}"
            )
        time.sleep(0.1)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(host: str, port: int) -> bool:
    """Return whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def check_port_free(host: str, port: int, *, key: str) -> None:
    """Refuse a port that another program listens on.

    Raises
    ------
    FederationError
        If the port is in use or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise FederationError(
                f"{key}={port}; expected a free port on {host}, but {error.strerror}; "
                f"end the other program or choose another port, e.g. {key}={port + 1}"
            ) from None


def _last_words(child: Child) -> str:
    lines = [line.strip() for line in child.log_tail().splitlines() if line.strip()]
    return lines[-1] if lines else "(no output)"


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _for_its_owner(path: str, flags: int) -> int:
    """Open a log: what a program says of images may name patients."""
    return os.open(path, flags, 0o600)
