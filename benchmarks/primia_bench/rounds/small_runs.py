"""Runs of the product whose rounds have next to no training, so that the rest shows."""

import json
from dataclasses import dataclass
from pathlib import Path

from primia_flwr.storage import plain_csv


def overrides(
    folder: Path, *, sites: int, rounds: int, secure: bool, model: str = "resnet18"
) -> list[str]:
    """Return the overrides of a run in `folder`: one batch of 8 images a site and round."""
    names = ",".join(f"site-{index + 1}" for index in range(sites))
    return [
        f"output_dir={folder}",
        f"data.cache_dir={folder}/cache",
        f"federation.sites=[{names}]",
        f"federation.min_sites={sites}",
        f"federation.rounds={rounds}",
        f"aggregation={'secure' if secure else 'plain'}",
        f"model={model}",
        f"data.synthetic.patients={40 * sites}",
        "data.image_size=32",
        "training.sync_every_n_batches=1",
        "training.batch_size=8",
        "tracking=disabled",
        "quiet=true",
    ]


@dataclass(frozen=True)
class RoundCosts:
    """Of the rounds of one run but the first, which pays for the start of processes.

    `seconds`: from one model to the next. `outside`: those in which no site trains.
    `evaluation`: of the exchange that validates the last model. `sent`: bytes a round.
    """

    first: float
    seconds: list[float]
    outside: list[float]
    evaluation: float
    sent: int

    @classmethod
    def read(cls, folder: Path, *, sites: int) -> "RoundCosts":
        """Read them from a finished run's folder."""
        with (folder / "history.csv").open(encoding="utf-8") as file:
            rows = list(plain_csv.DictReader(file))
        if any(int(row["sites"]) != sites for row in rows):
            raise SystemExit(f"a round went without a site; expected all {sites} in each")
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        times = {event["event"]: float(event["time"]) for event in map(json.loads, lines)}
        seconds = [float(row["seconds"]) for row in rows]
        last = rows[-1]
        return cls(
            first=seconds[0],
            seconds=seconds[1:],
            outside=[float(row["seconds_outside_training"]) for row in rows[1:]],
            evaluation=round(times["validated"] - times["round_finished"], 3),
            sent=int(last["bytes_up"]) + int(last["bytes_down"]),
        )
