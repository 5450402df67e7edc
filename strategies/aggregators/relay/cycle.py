"""Where a relay is within a cycle: in which order, who has answered, and the newest model.

Written after every site, so that a coordinator that is started again repeats one site at most.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import kept_hash
from primia_flwr.errors import CheckpointError
from primia_flwr.runs.checkpoint import GLOBAL, ArrayMap, Checkpoint, load_latest, save_checkpoint
from primia_flwr.runs.history import OK, SiteRow
from primia_flwr.storage.reading import reading
from primia_flwr.training.device import derive_seed


@dataclass
class Cycle:
    """A cycle so far.

    `number`: from 1. `model`: the newest that the coordinator may read. `holder`: the site that
    trained last, whose model goes on; empty before the first. `rows`: by site; those asked again
    are in it once. `links`: what the sites have signed of their trainings, hexadecimal. Bytes,
    images and seconds as of `Outcome`.
    """

    number: int
    model: ArrayMap
    holder: str = ""
    rows: dict[str, SiteRow] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    images: float = 0.0
    training_seconds: float = 0.0

    @property
    def trained(self) -> list[SiteRow]:
        """The rows of the sites that have trained."""
        return [row for row in self.rows.values() if row.status == OK]

    def has(self, site: str) -> bool:
        """Say whether a site has given a good answer."""
        return site in self.rows and self.rows[site].good


def order_of(experiment: Experiment, cycle: int) -> list[str]:
    """Return the sites in the order of a cycle: as listed, or drawn from the run's seed."""
    sites = list(experiment.federation.sites)
    if experiment.strategy.options["order"] == "listed":
        return sites
    drawn = np.random.default_rng(derive_seed(experiment.seed, "relay", cycle))
    return [sites[index] for index in drawn.permutation(len(sites))]


class CycleLog:
    """Keeps the newest state of the running cycle on the disk.

    Parameters
    ----------
    folder : Path, optional
        The run's; without it nothing outlives the process.
    experiment : Experiment
        Whose cycle it is. Unless it goes on from a run, what an earlier one left is deleted.
    """

    def __init__(self, folder: Path | None, experiment: Experiment) -> None:
        self._folder = folder and folder / "checkpoints" / "cycle"
        self._hash = kept_hash(experiment)
        self._newest: Cycle | None = None
        if self._folder is not None and not experiment.resume:
            shutil.rmtree(self._folder, ignore_errors=True)

    def save(self, cycle: Cycle) -> None:
        """Write the cycle, whole or not at all.

        Raises
        ------
        CheckpointError
            If it cannot be written; what was there stays.
        """
        self._newest = cycle
        if self._folder is None:
            return
        values = asdict(replace(cycle, model={}))
        arrays = {GLOBAL: cycle.model}
        save_checkpoint(self._folder, Checkpoint(self._hash, cycle.number, arrays, values))

    def newest(self, model: ArrayMap) -> Cycle | None:
        """Return the cycle that was saved last; None where there is none.

        `model`: names, shapes and dtypes that the kept one must have.

        Raises
        ------
        CheckpointError
            If what is there is damaged, or of another experiment.
        """
        if self._newest is None and self._folder is not None:
            found = load_latest(self._folder, config_hash=self._hash, model=model)
            self._newest = _cycle_of(found, model) if found else None
        return self._newest


def _cycle_of(found: Checkpoint, model: ArrayMap) -> Cycle:
    expected = "what this version wrote; start the run again without resume"
    with reading("the cycle in a checkpoint", error=CheckpointError, expected=expected):
        values = dict(found.state)
        rows = {str(site): SiteRow(**row) for site, row in values.pop("rows").items()}
        kept = {name: found.arrays[GLOBAL][name] for name in model}
        return Cycle(**values | {"model": kept, "rows": rows})


def mean_loss(rows: Sequence[SiteRow]) -> float | None:
    """Return the mean training loss over the images of some sites; None where none is known."""
    known = [(row.train_loss, row.num_examples) for row in rows]
    pairs = [(loss, count) for loss, count in known if loss is not None and count]
    total = sum(count for _, count in pairs)
    return sum(loss * count for loss, count in pairs) / total if pairs else None
