"""Wall time of a federated round, secure against plain: ours simulated, ours over TLS, Flower's.

Five nodes, an update of the size of ResNet-18 (11.2 million float32 entries), as little
training as there can be, nobody drops out. The kinds are measured one after the other in the
same run, plain and secure alternately; the first round of each run pays for the processes'
start and is reported apart.

    python -m primia_bench.secagg.federation_rounds --output benchmarks/results/secagg_rounds.json

`simulation`: `primia train`; `supernodes`: `primia federation trial`, real SuperNodes behind
TLS on loopback; `flower`: SecAgg+ with Flower's legacy strategies in Flower's simulation, which
has no SuperLink in between and as many clients at a time as there are cores; `flower_app`: Flower's
own app as a user writes it (`flower_app.py`), plain, SuperNodes without TLS, SuperLink in memory.

A plain round of ours is one exchange: sites validate the model as it arrives, then train it.
Flower's is two, train and evaluate. So there are two ratios, of medians:

- `secure / plain`: train (with validation, in ours) against the same without masks.
- `secure / train and evaluate`: against a plain round that evaluates in an exchange of its own.
  Ours is the plain round and the exchange that validates the last model. Flower's secure round
  then has its evaluation too, as it does not validate what it trains.

Of `supernodes`, both rounds are also given as shares of `flower_app`'s train and evaluate.

The bound for ours is 1.3; it was set for the second. A round lasts from one model to the next,
its checkpoint included; seconds in `median_steps` are those of the protocol's exchanges.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_bench.secagg.flower_app import measure
from primia_flwr.cli.federation import trial as federation_trial
from primia_flwr.cli.train import train
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.pipeline.first_model import first_model
from primia_flwr.processes.children import (
    Child,
    available_cores,
    flower_environment,
    isolated_module,
    wait_until,
)
from primia_flwr.runs.secure_sums import TRAIN, read_sums
from primia_flwr.storage import plain_csv

SIMULATION, SUPERNODES, FLOWER = "simulation", "supernodes", "flower"
FLOWER_APP = "flower_app"
KINDS = (SIMULATION, SUPERNODES, FLOWER, FLOWER_APP)
BOUND = 1.3
_AGGREGATIONS = {False: "plain", True: "secure"}
_NUM_CLASSES = 3  # of the synthetic data
_ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Rounds:
    """Seconds of the rounds of some runs, plain or secure.

    `first`: of each run; `later`: of all others. `evaluate`: of the exchanges that only
    validate. `steps`: by step of the protocol, of the rounds in `later`.
    """

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    evaluate: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Of a round that is not the first."""
        return statistics.median(self.later)

    @property
    def with_evaluation(self) -> float:
        """Of a round and an exchange that evaluates."""
        return self.median + statistics.median(self.evaluate)

    def add(self, seconds: list[float]) -> None:
        """Take the rounds of one run."""
        self.first.append(seconds[0])
        self.later += seconds[1:]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON; `elsewhere` is what no step of the protocol accounts for."""
        steps = {name: statistics.median(values) for name, values in self.steps.items()}
        if steps:
            steps["elsewhere"] = self.median - sum(steps.values())
        return {
            "median_round": round(self.median, 3),
            "median_evaluate": round(statistics.median(self.evaluate), 3),
            **({"median_steps": {k: round(v, 3) for k, v in steps.items()}} if steps else {}),
            "first_rounds": self.first,
            "rounds": self.later,
            "evaluate": self.evaluate,
        }


Measure = Callable[[argparse.Namespace, Rounds, bool, Path], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sites", type=int, default=5, help="at least 3")
    parser.add_argument("--rounds", type=int, default=5, help="of each run, at least 2")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each kind, alternately")
    parser.add_argument("--only", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--flower-database", action="store_true", help="SQLite for flower_app")
    parser.add_argument("--model", default="resnet18", help="another one to try this out")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    found = {kind: {False: Rounds(), True: Rounds()} for kind in args.only}
    found |= {kind: {False: Rounds()} for kind in args.only if kind == FLOWER_APP}
    for _ in range(args.repeats):
        for kind in args.only:
            for secure, rounds in found[kind].items():
                _say(f"{kind}, {'secure' if secure else 'plain'}: {args.rounds} rounds ...")
                with _scratch() as folder:
                    _MEASURES[kind](args, rounds, secure, folder)
                _say(f"  a round {rounds.median:.2f} s, evaluation {rounds.evaluate[-1]:.2f} s")
    results = {
        kind: compare(kind, both[False], both[True])
        for kind, both in found.items()
        if kind != FLOWER_APP
    }
    if FLOWER_APP in found:
        results[FLOWER_APP] = beside(found[FLOWER_APP][False], found.get(SUPERNODES, {}))
    document = {
        "benchmark": "secagg_rounds",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "entries": sum(_sizes(args.model)),
        "bound": BOUND,
        "kinds": results,
        "machine": describe_machine(),
    }
    for kind, result in results.items():
        _say(f"{kind}: {', '.join(f'{k} = {v:.2f}' for k, v in result['ratios'].items())}")
    publish(document, args.output)


def compare(kind: str, plain: Rounds, secure: Rounds) -> dict[str, Any]:
    """Return both ratios and what they are made of."""
    against = secure.with_evaluation if kind == FLOWER else secure.median
    ratios = {
        "secure / plain": round(secure.median / plain.median, 3),
        "secure / train and evaluate": round(against / plain.with_evaluation, 3),
    }
    holds = {name: ratio <= BOUND for name, ratio in ratios.items()}
    return {"ratios": ratios, "holds": holds, "plain": plain.to_dict(), "secure": secure.to_dict()}


def beside(flower: Rounds, ours: dict[bool, Rounds]) -> dict[str, Any]:
    """Return our rounds at real SuperNodes as shares of the train and evaluate of Flower's app."""
    names = {True: "secure", False: "plain"}
    ratios = {
        f"{names[secure]} / Flower's train and evaluate": round(
            rounds.median / flower.with_evaluation, 3
        )
        for secure, rounds in ours.items()
    }
    return {"ratios": ratios, "plain": flower.to_dict()}


# --- Ours --------------------------------------------------------------------------------------


def _simulation(args: argparse.Namespace, rounds: Rounds, secure: bool, folder: Path) -> None:
    with _words_on_failure(folder):
        train.run(_experiment(args, secure, folder))
        _read_run(args, rounds, folder)


def _supernodes(args: argparse.Namespace, rounds: Rounds, secure: bool, folder: Path) -> None:
    with _words_on_failure(folder):
        federation_trial.run(_experiment(args, secure, folder))
        _read_run(args, rounds, folder)


@contextmanager
def _words_on_failure(folder: Path) -> Iterator[None]:
    """Show the end of a failed run's log, which goes with its folder."""
    try:
        yield
    except BaseException:
        log = folder / "logs" / "flower.log"
        if log.is_file():
            _say(log.read_text(encoding="utf-8", errors="replace")[-4000:])
        raise


def _experiment(args: argparse.Namespace, secure: bool, folder: Path) -> Experiment:
    names = ",".join(f"site-{index + 1}" for index in range(args.sites))
    overrides = [
        f"output_dir={folder}",
        f"data.cache_dir={folder}/cache",
        f"federation.sites=[{names}]",
        f"federation.min_sites={args.sites}",
        f"federation.rounds={args.rounds}",
        f"aggregation={_AGGREGATIONS[secure]}",
        f"model={args.model}",
        f"data.synthetic.patients={40 * args.sites}",
        "data.image_size=32",
        "training.sync_every_n_batches=1",
        "training.batch_size=8",
        "tracking=disabled",
        "quiet=true",
    ]
    return parse(Experiment, compose("config", overrides))


def _read_run(args: argparse.Namespace, rounds: Rounds, folder: Path) -> None:
    with (folder / "history.csv").open(encoding="utf-8") as file:
        rows = list(plain_csv.DictReader(file))
    if any(int(row["sites"]) != args.sites or int(row["failed"]) for row in rows):
        raise SystemExit(f"a round went without a site: {rows}; expected all {args.sites} in each")
    rounds.add([float(row["seconds"]) for row in rows])
    rounds.evaluate.append(_last_evaluation(folder))
    for row in read_sums(folder):
        if row.kind == TRAIN and row.round > 1:
            for name, seconds in row.seconds.items():
                rounds.steps.setdefault(name, []).append(seconds)


def _last_evaluation(folder: Path) -> float:
    """Return the seconds from the end of the last round until its model was validated."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    times = {event["event"]: float(event["time"]) for event in map(json.loads, lines)}
    return round(times["validated"] - times["round_finished"], 3)


# --- Flower's ----------------------------------------------------------------------------------


def flower_simulation(args: argparse.Namespace, rounds: Rounds, secure: bool, folder: Path) -> None:
    """Run it as a child behind our guardian, which ends what Ray would leave behind."""
    folder.mkdir(parents=True)
    output = folder / "rounds.json"
    ray_folder = tempfile.mkdtemp(prefix="primia-ray-")  # Ray's sockets need a short path
    command = [sys.executable, "-m", "primia_bench.secagg.flower_secagg", "--output", str(output)]
    command += ["--sites", str(args.sites), "--rounds", str(args.rounds)]
    command += ["--workers", str(available_cores())]
    command += ["--sizes", ",".join(map(str, _sizes(args.model)))]
    environment = flower_environment(folder) | {
        "PYTHONPATH": str(_ROOT),
        "RAY_TMPDIR": ray_folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    child = Child(
        "Flower's simulation",
        isolated_module(
            "primia_flwr.processes.guardian",
            ray_folder,
            *command,
            *(["--secure"] if secure else []),
        ),
        log_file=folder / "flower.log",
        environment=environment,
        folder=folder,
    )
    try:
        wait_until(lambda: child.poll() is not None, what=child.name, timeout=3600.0)
    finally:
        child.stop()
        shutil.rmtree(ray_folder, ignore_errors=True)
    if child.poll() or not output.is_file():
        raise SystemExit(f"{child.name} failed:\n{child.log_tail(30)}")
    seconds = json.loads(output.read_text(encoding="utf-8"))
    rounds.add(seconds["train"])
    rounds.evaluate += seconds["evaluate"][1:]


def _flower_app(args: argparse.Namespace, rounds: Rounds, secure: bool, folder: Path) -> None:
    folder.mkdir(parents=True)
    sizes = _sizes(args.model)
    seconds = measure(
        sizes, sites=args.sites, rounds=args.rounds, folder=folder, database=args.flower_database
    )
    rounds.add(seconds["train"])
    rounds.evaluate += seconds["evaluate"][1:]


def _sizes(model: str) -> list[int]:
    """Return the entries of each float array of a model, as they travel."""
    module = first_model(parse(Experiment, compose("config", [f"model={model}"])), _NUM_CLASSES)
    return [t.numel() for t in module.state_dict().values() if t.is_floating_point()]


# --- The rest ----------------------------------------------------------------------------------


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
        yield Path(folder) / "run"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_MEASURES: dict[str, Measure] = {
    SIMULATION: _simulation,
    SUPERNODES: _supernodes,
    FLOWER: flower_simulation,
    FLOWER_APP: _flower_app,
}

if __name__ == "__main__":
    main()
