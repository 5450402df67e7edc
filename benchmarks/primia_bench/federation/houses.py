"""A coordinator and hospitals in folders of their own, who type the commands of the guides."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from primia_flwr.processes.children import Child, flower_environment
from primia_flwr.processes.programs import programs_folder

CLASSES = ("bacterial", "normal", "viral")
_PATIENTS, _SIDE = 5, 64
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def wait(ready: Callable[[], bool], what: str, seconds: float = 240.0) -> float:
    """Wait until something is so; return the seconds that it took."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)
    return time.monotonic() - began


@dataclass(frozen=True)
class Answer:
    """What a command answered: exit code, its JSON line, and all that it wrote."""

    code: int
    result: dict[str, Any]
    text: str


@dataclass
class House:
    """A folder in which somebody types commands."""

    folder: Path
    children: list[Child] = field(default_factory=list)

    def primia(self, *words: str, code: int | None = 0, seconds: float = 600.0) -> Answer:
        """Run `primia`; with `code` that exit code is expected."""
        done = subprocess.run(
            [str(programs_folder() / "primia"), *words],
            cwd=self.folder,
            env=os.environ | _ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        text = done.stdout + done.stderr
        if code is not None and done.returncode != code:
            raise RuntimeError(f"primia {' '.join(words)}: exit code {done.returncode}: {text}")
        if "Traceback" in text:
            raise RuntimeError(f"primia {' '.join(words)}: a traceback: {text}")
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return Answer(done.returncode, json.loads(lines[-1]) if lines else {}, text)

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> Child:
        """Start a process that stays, with its log beside the folder."""
        log = self.folder.parent / "logs" / f"{self.folder.name}-{name}.log"
        child = Child(name, command, log_file=log, environment=environment, folder=self.folder)
        self.children.append(child)
        return child

    def stop(self) -> None:
        """Stop what was started here."""
        while self.children:
            self.children.pop().stop()


def _ended(child: Child) -> Callable[[], bool]:
    return lambda: child.poll() is not None


class Coordinator(House):
    """Has `federations/fl`, and the SuperLink as the units of `primia provision` start it."""

    @property
    def federation(self) -> Path:
        """The folder that `primia provision` made."""
        return self.folder / "federations" / "fl"

    def start_superlink(self) -> None:
        """Start both processes by the lines of the systemd units."""
        for kind in ("superlink", "superexec"):
            unit = (self.federation / f"primia-fl-{kind}.service").read_text()
            found = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
            assert found is not None
            environment = flower_environment(self.federation / "flower") | _ENVIRONMENT
            (self.federation / "flower").mkdir(exist_ok=True)
            self.start(kind, shlex.split(found[1]), environment)
            time.sleep(6.0 if kind == "superlink" else 0.0)

    def train(self, name: str, *words: str) -> Child:
        """Start `primia train` into `out/<name>`."""
        command = [str(programs_folder() / "primia"), "train", f"name={name}", "deployment=fl"]
        command += [f"output_dir={self.folder / 'out' / name}", *SMALL, *words]
        return self.start(f"train-{name}", command, os.environ | _ENVIRONMENT)

    def event(self, name: str, text: str) -> bool:
        """Say whether a run has such a line among its events."""
        file = self.folder / "out" / name / "events.jsonl"
        return file.is_file() and text in file.read_text()


SMALL = (
    *("data.image_size=32", "model=simpleconv", "training.batch_size=16", "tracking=disabled"),
    *("training.threads=1", "report.saliency=0", f"data.classes=[{','.join(CLASSES)}]"),
)


class Hospital(House):
    """A house with its images, and the kit that it unzipped."""

    @property
    def name(self) -> str:
        """The site's name."""
        return self.folder.name

    @property
    def kit(self) -> House:
        """The kit's folder, in which its staff types."""
        return House(self.folder / f"kit-{self.name}")

    def unpack(self, archive: Path) -> None:
        """Unzip the kit and say in `site.yaml` where the images are and what may run."""
        with zipfile.ZipFile(archive) as found:
            for entry in found.infolist():
                target = Path(found.extract(entry, self.folder))
                target.chmod(entry.external_attr >> 16 & 0o777)
        self._draw()
        self.edit("data_root", f"{self.folder / 'images'}")
        self.edit("allowed_experiments", '["*"]')

    def edit(self, key: str, value: str) -> None:
        """Change a key of `site.yaml`, as with an editor."""
        file = self.kit.folder / "site.yaml"
        file.write_text(re.sub(rf"(?m)^{key}:.*$", f"{key}: {value}", file.read_text()))

    def run(self) -> None:
        """Start `primia site run` and wait until it is connected."""
        command = [str(programs_folder() / "primia"), "site", "run"]
        place = House(self.kit.folder)
        child = place.start("site", command, os.environ | _ENVIRONMENT)
        self.children.append(child)
        wait(lambda: "connected; waiting" in child.log_tail(200), f"{self.name} connected")

    def end(self) -> None:
        """Stop the site as Ctrl-C does."""
        while self.children:
            child = self.children.pop()
            os.kill(child.pid, signal.SIGINT)
            wait(_ended(child), f"{self.name} ended", 60)

    def events(self) -> list[str]:
        """Return the events of the site's log."""
        file = self.kit.folder / "state" / "site-log.jsonl"
        return [json.loads(line)["event"] for line in file.read_text().splitlines()]

    def _draw(self) -> None:
        rng = np.random.default_rng(sum(map(ord, self.name)))
        for index, label in enumerate(CLASSES):
            for patient in range(_PATIENTS):
                place = self.folder / "images" / label / f"{self.name}-{label}-{patient}"
                place.mkdir(parents=True)
                low = 60 * index
                pixels = rng.integers(low, low + 100, (_SIDE, _SIDE), dtype=np.uint8)
                Image.fromarray(pixels).save(place / "1.png")
