"""The live view of a run: rounds, sites, images per second, time left.

A run writes its events to `events.jsonl`; simulated sites also write how far they are. The
view only reads files, so it shows the same for a simulation and for a real federation, and
a run does not care whether anybody watches. Without a terminal it prints a line per round.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from primia_flwr.cli.train.rounds import RoundTable, number
from primia_flwr.runs.history import Event, EventTail
from primia_flwr.storage.reading import parse_json, read_text
from primia_flwr.tasks.task import Metric

_WIDE = 100


def _bars(console: Console) -> Progress:
    wide = console.width >= _WIDE
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=24 if wide else 12),
        MofNCompleteColumn(),
        *([TimeElapsedColumn()] if wide else []),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


class LiveView:
    """Shows the events of one run on standard error; a context manager.

    `metric`: the one that stands beside the losses.
    """

    def __init__(
        self, run_dir: Path, rounds: int, sites: list[str], metric: Metric, *, quiet: bool
    ) -> None:
        self._metric = metric
        self._console = Console(stderr=True, quiet=quiet, emoji=False)
        self._tail = EventTail(run_dir / "events.jsonl")
        self._site_files = {name: run_dir / "sites" / name / "progress.json" for name in sites}
        self._table, self._in_all = RoundTable(metric), rounds
        self._seconds, self._seen = 0.0, 0
        self._progress = _bars(self._console)
        self._rounds = self._progress.add_task("rounds", total=rounds, note="starting")
        self._sites: dict[str, TaskID] = {
            name: self._progress.add_task(f"  {name}", total=None, note="waiting", start=False)
            for name in sites
        }
        self._steps: dict[str, TaskID] = {}

    def __enter__(self) -> "LiveView":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rows(self._table.rest())
        self._progress.stop()

    def update(self) -> None:
        """Read what is new and redraw; call it a few times a second."""
        for event in self._tail.new():
            handler = _HANDLERS.get(str(event.get("event")))
            if handler:
                handler(self, event)
        if self._console.is_terminal:
            self._update_sites()

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def step(self, name: str, done: float, total: float, note: str) -> None:
        """Show how far a step is that runs in this process, e.g. the centralised baseline."""
        if name not in self._steps:
            self._steps[name] = self._progress.add_task(name, total=total, note="")
            if not self._console.is_terminal:
                self.say(f"{name} ...")
        self._progress.update(self._steps[name], completed=done, total=total, note=note)

    def _update_sites(self) -> None:
        for name, path in self._site_files.items():
            state = _read_json(path)
            if state:
                self._progress.update(
                    self._sites[name],
                    completed=state["batch"],
                    total=state["batches"],
                    note=_speed(state.get("images_per_second")),
                )

    def _introducing(self, event: Event) -> None:
        self._progress.update(self._rounds, note=f"asking {', '.join(event.get('sites', []))}")

    def _waiting(self, event: Event) -> None:
        online = ", ".join(event.get("online", [])) or "none"
        self.say(f"waiting for {event.get('needed')} sites; there: {escape(online)}")

    def _round_started(self, event: Event) -> None:
        self._progress.update(self._rounds, note=f"{_where(event)} training")

    def _site_reply(self, event: Event) -> None:
        name, status = str(event.get("site")), str(event.get("status"))
        if name not in self._sites:
            self._sites[name] = self._progress.add_task(f"  {name}", total=None, note="")
        self._progress.update(self._sites[name], note=status)
        if status not in ("ok", "evaluated"):
            reason = escape(str(event.get("reason", "")))
            self.say(f"[yellow]{escape(name)}: {status}[/] {reason}")

    def _repeated(self, event: Event) -> None:
        came = f"{event.get('updates')} good updates came in attempt {event.get('attempt')}"
        self.say(f"[yellow]{_where(event)} is repeated[/]: {came}")

    def _round_finished(self, event: Event) -> None:
        done, total = int(event["done" if "done" in event else "round"]), event.get("total")
        self._progress.update(self._rounds, completed=done, total=total, note=self._trained(event))
        if self._console.is_terminal and "configuration" not in event:
            self._rows(self._table.finished(event))
        else:
            self._say_finished(event)

    def _say_finished(self, event: Event) -> None:
        """Say in one line what a round gave, and before it what the one before was worth."""
        validated = int(event["val_round" if "val_round" in event else "round"])
        words = self._trained(event)
        if validated == event["round"]:
            words += f"  {self._validation(event)}"
        elif validated:
            self.say(self._of_round(event, validated))
        seconds, sites = number(event, "seconds", 1), event.get("sites")
        left = "" if "configuration" in event else self._left(event)
        self.say(f"{_where(event)}: {words}  {sites} sites  {seconds} s{left}")

    def _left(self, event: Event) -> str:
        """Say how long the rounds that are left take, if they take as long as those seen."""
        self._seconds += float(event.get("seconds") or 0.0)
        self._seen += 1
        left = self._in_all - int(event["round"])
        return f", about {left * self._seconds / self._seen:.0f} s left" if left > 0 else ""

    def _validated(self, event: Event) -> None:
        """Show the last model's validation, which no further round brings."""
        if self._console.is_terminal and "configuration" not in event:
            self._rows(self._table.validated(event))
        else:
            self.say(self._of_round(event, event["round"]))

    def _rows(self, lines: list[str]) -> None:
        for line in lines:
            self.say(line)

    def _of_round(self, event: Event, number: int) -> str:
        """Return what is known of the model after another round than the event's."""
        return f"{_where({**event, 'round': number})}: {self._validation(event)}"

    def _validation(self, event: Event) -> str:
        shown = {"val loss": "val_loss", f"val {self._metric.words}": self._metric.column}
        return "  ".join(f"{words} {number(event, key)}" for words, key in shown.items())

    @staticmethod
    def _trained(event: Event) -> str:
        return f"train loss {number(event, 'train_loss')}"

    def _diverged(self, event: Event) -> None:
        self.say(f"[yellow]configuration {event['configuration']} diverged[/] {event['reason']}")

    def _finished(self, event: Event) -> None:
        if "configuration" in event:
            self.say(f"chosen: configuration {event['configuration']}; see search.json")


_HANDLERS: dict[str, Callable[[LiveView, Event], None]] = {
    "introducing": LiveView._introducing,
    "waiting": LiveView._waiting,
    "round_started": LiveView._round_started,
    "site_reply": LiveView._site_reply,
    "round_repeated": LiveView._repeated,
    "round_finished": LiveView._round_finished,
    "validated": LiveView._validated,
    "configuration_diverged": LiveView._diverged,
    "finished": LiveView._finished,
}


def _speed(images: float | None) -> str:
    """Say how fast a site is; a private run's site does not tell."""
    return "" if images is None else f"{images:.0f} images/s"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = parse_json(read_text(path), finite=False)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _where(event: Event) -> str:
    """Return where a run is; in a search, in which rung and with which configuration."""
    words = f"round {event['round']}"
    if "configuration" in event:
        words = (
            f"rung {event['rung']}/{event['rungs']}, configuration {event['configuration']} "
            f"of 0-{event['configurations'] - 1}, {words}"
        )
    return words
