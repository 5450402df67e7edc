"""`primia site run`: a SuperNode that only runs bundles which the hospital approved."""

import signal
import threading
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.site.policy import SiteArguments
from primia_flwr.processes.stop_signals import stop_signals
from primia_flwr.site.policy import load_policy
from primia_flwr.site.run import run_site


def _run(cfg: SiteArguments) -> dict[str, Any]:
    """Run the site until Ctrl-C, SIGTERM or the end of the terminal."""
    policy = load_policy(Path(cfg.site))
    console = Console(stderr=cfg.quiet, emoji=False)
    stop = threading.Event()
    for number in stop_signals():
        signal.signal(number, lambda *_: stop.set())

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    say("Only approved bundles run here; Ctrl-C stops the site.")
    run_site(Path(cfg.site), stop=stop, say=say)
    return {"site": policy.site, "stopped": True}


COMMAND = Command(
    words=("site", "run"),
    summary="connect to the SuperLink and run approved bundles, until Ctrl-C",
    examples=("primia site run", "primia site run site=kit-munich/site.yaml"),
    config_name="commands/site/run",
    schema=SiteArguments,
    run=_run,
    positional="site",
)
