"""A command called from Python: the same words, the same checks, the same function."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from primia_flwr.api.words import Setting, as_words
from primia_flwr.cli.command import Command
from primia_flwr.cli.plugins import with_plugins
from primia_flwr.processes.children import loopback_without_proxy

_ONE_AT_A_TIME = threading.RLock()  # Hydra, the umask and the environment are the process's


def call(command: Command, *settings: Setting) -> dict[str, Any]:
    """Run a command with settings and return what it prints as its last line.

    Raises
    ------
    PrimiaError
        As the command itself.
    """
    with _ONE_AT_A_TIME, _as_a_program():
        words = with_plugins(as_words(settings))
        return command.run(command.of_words(words)) or {}


@contextmanager
def _as_a_program() -> Iterator[None]:
    """Have files written for their owner only, and loopback past proxies, as `primia` does."""
    umask, proxies = os.umask(0o077), loopback_without_proxy(os.environ)
    before = {name: os.environ.get(name) for name in proxies}
    os.environ.update(proxies)
    try:
        yield
    finally:
        os.umask(umask)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
