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

from primia_flwr.runs.history import Event, EventTail
from primia_flwr.storage.reading import parse_json, read_text
from primia_flwr.tasks.task import Metric


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
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
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
        if name in self._sites:
            self._progress.update(self._sites[name], note=status)
        if status not in ("ok", "evaluated"):
            self.say(f"[yellow]{name}: {status}[/] {event.get('reason', '')}")

    def _round_finished(self, event: Event) -> None:
        validated = int(event["val_round" if "val_round" in event else "round"])
        if own := validated == event["round"]:
            note = f"{self._trained(event)}  {self._validation(event)}"
        else:
            note = self._trained(event)
        done, total = int(event["done" if "done" in event else "round"]), event.get("total")
        shown = note if own or not validated else f"{note}  [{self._of_round(event, validated)}]"
        self._progress.update(self._rounds, completed=done, total=total, note=shown)
        if not self._console.is_terminal:
            if validated and not own:
                self.say(self._of_round(event, validated))
            seconds = _number(event, "seconds", 1)
            self.say(f"{_where(event)}: {note}  {event.get('sites')} sites  {seconds} s")

    def _validated(self, event: Event) -> None:
        """Show the last model's validation, which no further round brings."""
        text = self._of_round(event, event["round"])
        self._progress.update(self._rounds, note=text)
        if not self._console.is_terminal:
            self.say(text)

    def _of_round(self, event: Event, number: int) -> str:
        """Return what is known of the model after another round than the event's."""
        return f"{_where({**event, 'round': number})}: {self._validation(event)}"

    def _validation(self, event: Event) -> str:
        shown = {"val loss": "val_loss", f"val {self._metric.words}": self._metric.column}
        return "  ".join(f"{words} {_number(event, key)}" for words, key in shown.items())

    @staticmethod
    def _trained(event: Event) -> str:
        return f"train loss {_number(event, 'train_loss')}"

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


def _number(event: Event, key: str, digits: int = 3) -> str:
    value = event.get(key)
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"
