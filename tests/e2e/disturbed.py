"""A run over a real federation (TLS, keys, gates), and what happens to it on the way."""

from __future__ import annotations

import csv
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.errors import PrimiaError
from primia_flwr.pipeline.experiment import run_experiment, settle
from primia_flwr.runs.secure_sums import SumRow, read_sums
from primia_flwr.trials.federation import deployed, loopback_federation
from primia_flwr.trials.loopback import LoopbackFederation
from tests.e2e.runner import TINY, events, processes_of
from tests.faults.crashes import kill_site


class _Silent:
    def update(self) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, name: str, done: float, total: float, note: str) -> None: ...


@dataclass(frozen=True)
class Disturbance:
    """Do something once an event with these values has been written, `after` seconds later."""

    what: Callable[[LoopbackFederation], None]
    when: dict[str, Any]
    after: float = 0.0

    def due(self, written: list[dict[str, Any]]) -> bool:
        """Tell whether the event is among those written."""
        return any(self.when.items() <= event.items() for event in written)


def kill(site: str) -> Callable[[LoopbackFederation], None]:
    """End a site as a power cut would."""
    return lambda federation: kill_site(federation.sites[site])


def start(site: str) -> Callable[[LoopbackFederation], None]:
    """Start a site that was killed, and wait until it is connected."""

    def begin(federation: LoopbackFederation) -> None:
        federation.sites[site].start()
        federation.sites[site].wait_connected(120)

    return begin


class Disturbed:
    """A run over a real federation in `folder`."""

    def __init__(
        self,
        folder: Path,
        *overrides: str,
        policy: Mapping[str, Any] | None = None,
        **federation: Any,
    ) -> None:
        self.policy = policy or {}  # what each site's policy says otherwise
        text = [*TINY, f"output_dir={folder}", f"data.cache_dir={folder}/cache", *overrides]
        experiment = parse(Experiment, compose("config", text))
        settings = replace(experiment.federation, **federation)
        self.folder = folder
        self.experiment = settle(replace(experiment, federation=settings), folder)

    def run(self, *disturbances: Disturbance) -> dict[str, Any]:
        """Run in a thread; disturb from the main one, whose children outlive it (PDEATHSIG).

        A run that ends with an error is resumed where disturbances are left over.
        """
        waiting = list(disturbances)
        with loopback_federation(self.experiment, self.folder / "trial") as federation:
            experiment = deployed(self.experiment, federation)
            for site in self.experiment.federation.sites if self.policy else ():
                federation.edit_policy(site, **self.policy)
            result = self._attempt(experiment, federation, waiting)
            while isinstance(result, PrimiaError) and waiting:
                waiting.pop(0).what(federation)
                again = replace(experiment, resume=str(self.folder))
                result = self._attempt(again, federation, waiting)
        assert not processes_of(self.folder)
        if isinstance(result, PrimiaError):
            raise result
        return result

    def _attempt(
        self, experiment: Experiment, federation: LoopbackFederation, waiting: list[Disturbance]
    ) -> dict[str, Any] | PrimiaError:
        results: list[dict[str, Any] | PrimiaError] = []

        def train() -> None:
            try:
                results.append(run_experiment(experiment, self.folder, _Silent()))
            except PrimiaError as error:
                results.append(error)

        thread = threading.Thread(target=train)
        thread.start()
        while thread.is_alive():
            if waiting and waiting[0].when and waiting[0].due(self.events()):
                disturbance = waiting.pop(0)
                time.sleep(disturbance.after)
                disturbance.what(federation)
            thread.join(0.05)
        return results[0]

    def events(self) -> list[dict[str, Any]]:
        return events(self.folder)

    def sites(self) -> list[dict[str, str]]:
        return list(csv.DictReader((self.folder / "sites.csv").open()))

    def rounds(self) -> list[dict[str, str]]:
        return list(csv.DictReader((self.folder / "history.csv").open()))

    def sums(self) -> list[SumRow]:
        return read_sums(self.folder)

    def kit(self, site: str) -> Path:
        return self.folder / "trial/federation" / f"kit-{site}"

    def model_hash(self) -> str:
        return hashlib.sha256((self.folder / "model.safetensors").read_bytes()).hexdigest()
