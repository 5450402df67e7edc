"""`primia runs log`: what a run has said, and with `follow` what it says from now on."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError
from primia_flwr.pipeline.known_runs import known_run
from primia_flwr.runs.history import Event, EventTail
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage.printable import printable

_LONGEST, _FLOWERS_LINES, _TAIL_BYTES, _LOOK_EVERY = 500, 5, 1 << 16, 0.5
_END_OF_TIME = 253402300800.0  # the year 10000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class _LogArguments:
    """Arguments of `primia runs log`: how many of the newest events; `follow`: until it ends."""

    run: str = ""
    last: int = 30
    follow: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("last", self.last, 1, 100_000, example=30)


def _run(cfg: _LogArguments) -> dict[str, Any]:
    """Print the newest events; of a run that did not end well its error and Flower's last lines."""
    if not cfg.run:
        raise ConfigError("run=''; expected the folder of a run; primia runs list shows them")
    folder, console = Path(cfg.run), Console(stderr=cfg.quiet, emoji=False)
    run = known_run(folder)
    tail = EventTail(folder / "events.jsonl", whole=True)
    _print(map(_line, tail.new()[-cfg.last :]), console)
    while cfg.follow and run.status == "running":
        time.sleep(_LOOK_EVERY)
        _print(map(_line, tail.new()), console)
        run = known_run(folder)
    error = str(read_json(folder / "error.json").get("error", ""))
    if run.status not in ("running", "finished"):
        _print(
            [*_flowers(folder)[-_FLOWERS_LINES:], *([f"error: {error}"] if error else [])], console
        )
    return {**run.to_dict(), "error": printable(error, limit=_LONGEST)}


def _line(event: Event) -> str:
    """Return e.g. `2026-11-21 12:00:05 round_finished round=3 train_loss=0.61 sites=3`."""
    seconds, when = event.get("time"), "?"
    if isinstance(seconds, int | float) and 0 <= seconds < _END_OF_TIME:
        when = f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"
    others = [f"{k}={v}" for k, v in event.items() if k not in ("event", "time") and v is not None]
    return " ".join([when, str(event["event"]), *others])


def _flowers(folder: Path) -> list[str]:
    """Return the last lines of Flower's log, without its colours."""
    file = folder / "logs" / "flower.log"
    if not file.is_file():
        return []
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        text = stream.read().decode("utf-8", "replace")
    return [line for line in _COLOUR.sub("", text).splitlines() if line.strip()]


def _print(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        text = printable(line, limit=_LONGEST)
        console.print(text, soft_wrap=True, highlight=False, markup=False)


COMMAND = Command(
    words=("runs", "log"),
    summary="show the newest events of a run, and why it ended; follow it until it ends",
    examples=(
        "primia runs log outputs/2026-11-21/12-00-00-pneumonia",
        "primia runs log outputs/2026-11-21/12-00-00-pneumonia follow=true last=5",
    ),
    config_name="commands/runs/log",
    schema=_LogArguments,
    run=_run,
    positional="run",
)
