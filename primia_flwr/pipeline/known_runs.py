"""The runs of which there are folders: how far each is, and whether anybody still works on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.plain_yaml import load_mapping
from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.flower.submitted import Submitted, submitted
from primia_flwr.runs.history import EventTail
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading

_DEEPEST = 4  # outputs/<date>/<time>-<sweep>/<job>
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class KnownRun:
    """One run folder.

    `status`: running, finished, failed, stopped, or interrupted: nobody here works on it, and
    it is not done. `rounds` are complete, of `wanted`.
    """

    folder: Path
    name: str
    status: str
    rounds: int
    wanted: int
    started: str
    deployment: DeploymentConfig
    submitted: Submitted | None

    @property
    def federation(self) -> str:
        """The name of the federation; empty for a simulation."""
        return self.deployment.name if self.deployment.kind == "deployment" else ""

    @property
    def run_id(self) -> int:
        """The run's number at the SuperLink; 0 where it has none."""
        return self.submitted.run_id if self.submitted else 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; the number as text, because JSON's readers round it."""
        return {
            "run": str(self.folder),
            "name": self.name,
            "status": self.status,
            "rounds": self.rounds,
            "of": self.wanted,
            "started": self.started,
            "federation": self.federation,
            "run_id": str(self.run_id or ""),
        }


def find_runs(root: Path) -> list[KnownRun]:
    """Return the runs below a folder, the newest first; what is no run is passed over."""
    found = []
    for depth in range(1, _DEEPEST + 1):
        for file in root.glob("/".join(["*"] * depth) + "/run.json"):
            try:
                found.append(known_run(file.parent))
            except PrimiaError:
                continue
    return sorted(found, key=lambda run: (run.started, str(run.folder)), reverse=True)


def _planned(config: Path) -> tuple[int, DeploymentConfig]:
    """Return how many rounds a run was to have, and where."""
    with reading(config, error=ConfigError, expected="the config.yaml as the run wrote it"):
        content = load_mapping(read_text(config), what="it")
        return int(content["federation"]["rounds"]), DeploymentConfig(**content["deployment"])


def known_run(folder: Path) -> KnownRun:
    """Return the run of a folder.

    Raises
    ------
    ConfigError
        If it is no folder of a run.
    """
    config, facts = folder / "config.yaml", read_json(folder / "run.json")
    if not config.is_file() or not facts:
        raise ConfigError(
            f"run={folder}; expected the output folder of a run (with config.yaml and run.json), "
            "e.g. run=outputs/2026-11-21/12-00-00-demo; primia runs list shows them"
        )
    wanted, deployment = _planned(config)
    sent, status = submitted(folder), str(facts.get("status", "unknown"))
    if status == "running" and (sent is None or sent.process() is None):
        status = INTERRUPTED
    name, started = (printable(str(facts.get(k, "")), limit=100) for k in ("name", "started"))
    return KnownRun(folder, name, status, _rounds(folder), wanted, started, deployment, sent)


def _rounds(folder: Path) -> int:
    events = EventTail(folder / "events.jsonl", whole=True).new()
    done = [event.get("round") for event in events if event["event"] == "round_finished"]
    return max((number for number in done if type(number) is int), default=0)
