"""The rounds of a run as rows of a table, each once its model is validated."""

from primia_flwr.runs.history import Event
from primia_flwr.tasks.task import Metric


class RoundTable:
    """Rows of text, at most 79 characters wide; the headings before the first one.

    Sites validate the model of a round when they begin the next one, so a row comes late.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._waiting: dict[int, Event] = {}
        self._began = False

    def finished(self, event: Event) -> list[str]:
        """Take a finished round; return the rows that are whole now."""
        self._waiting[int(event["round"])] = event
        validated = event["val_round" if "val_round" in event else "round"]
        return self.validated({**event, "round": validated})

    def validated(self, event: Event) -> list[str]:
        """Take the validation of a round's model; return the row of that round."""
        row = self._waiting.pop(int(event["round"]), None)
        return [] if row is None else self._lines(row, event)

    def rest(self) -> list[str]:
        """Return the rows of the rounds whose model nobody validated."""
        rows, self._waiting = self._waiting, {}
        return [line for row in rows.values() for line in self._lines(row, {})]

    def _lines(self, row: Event, seen: Event) -> list[str]:
        words = f"val {self._metric.words}"[:20]
        cells = [
            f"{row['round']:>5}",
            f"{number(row, 'train_loss'):>10}",
            f"{number(seen, 'val_loss'):>8}",
            f"{number(seen, self._metric.column):>{len(words)}}",
            f"{row.get('sites', '-')!s:>5}",
            f"{number(row, 'seconds', 1):>8}",
        ]
        head = [] if self._began else [f"round  train loss  val loss  {words}  sites   seconds"]
        self._began = True
        return [*head, "  ".join(cells)]


def number(event: Event, key: str, digits: int = 3) -> str:
    """Return a figure of an event as text; `-` where it has none."""
    value = event.get(key)
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"
