"""Flower's own app, as a user writes it: SuperLink in memory, SuperNodes, no TLS, plain rounds.

A client adds 0.001 to each array and says how many examples it has; FedAvg with Flower's Message
API trains and evaluates. Nothing of primia_flwr runs in it.

    python -m primia_bench.secagg.flower_app --sites 3 --rounds 3 --sizes 1000,10 --database ''
"""

import argparse
import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from primia_flwr.processes.children import Child, flower_environment, free_port, wait_until
from primia_flwr.processes.programs import flower_program

_PROJECT = """\
[project]
name = "flowers-own"
version = "1.0.0"
description = "a client that adds a constant"
license = { file = "LICENSE" }
dependencies = ["flwr>=1.41"]

[tool.flwr.app]
publisher = "benchmark"
fab-format-version = 1
flwr-version-target = "1.41.0"

[tool.flwr.app.components]
serverapp = "own.server:app"
clientapp = "own.client:app"

[tool.flwr.app.config]
sites = 3
rounds = 3
sizes = ""
result = ""
"""

_SERVER = """\
import json, time
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

class Timed(FedAvg):
    seconds = {"train": [], "evaluate": []}

    def configure_train(self, *args):
        self.began = time.monotonic()
        return super().configure_train(*args)

    def aggregate_train(self, *args):
        found = super().aggregate_train(*args)
        self.seconds["train"].append(round(time.monotonic() - self.began, 3))
        return found

    def configure_evaluate(self, *args):
        self.began = time.monotonic()
        return super().configure_evaluate(*args)

    def aggregate_evaluate(self, *args):
        found = super().aggregate_evaluate(*args)
        self.seconds["evaluate"].append(round(time.monotonic() - self.began, 3))
        return found

@app.main()
def main(grid, context):
    config, sites = context.run_config, context.run_config["sites"]
    sizes = [int(size) for size in config["sizes"].split(",")]
    model = ArrayRecord({f"a{i}": Array(np.zeros(n, np.float32)) for i, n in enumerate(sizes)})
    strategy = Timed(min_train_nodes=sites, min_evaluate_nodes=sites, min_available_nodes=sites)
    found = strategy.start(grid, model, num_rounds=config["rounds"])
    last = found.arrays["a0"].numpy()
    assert np.allclose(last, 0.001 * config["rounds"], atol=1e-6), last[:3]
    with open(config["result"], "w") as file:
        json.dump(strategy.seconds, file)
"""

_CLIENT = """\
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    model = message.content["arrays"]
    moved = {name: Array(array.numpy() + np.float32(0.001)) for name, array in model.items()}
    metrics = MetricRecord({"num-examples": 100})
    content = RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics})
    return Message(content, reply_to=message)

@app.evaluate()
def evaluate(message, context):
    metrics = MetricRecord({"num-examples": 100, "loss": 0.0})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
"""


def measure(
    sizes: list[int], *, sites: int, rounds: int, folder: Path, database: bool
) -> dict[str, list[float]]:
    """Return the seconds of each round's training and evaluation.

    `sizes`: entries of each float32 array. `database`: SQLite in place of memory.
    """
    app, home, result = _write_app(folder), folder / "home", folder / "seconds.json"
    port, environment = free_port(), flower_environment(folder / "home")
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink.own]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> Child:
            command = [flower_program(name), *arguments, "--insecure"]
            log = folder / f"{name}-{len(children)}.log"
            child = Child(name, command, log_file=log, environment=environment, folder=home)
            stack.callback(child.stop)
            children.append(child)
            return child

        children: list[Child] = []
        store = ["--database", str(folder / "link.db")] if database else []
        start("flower-superlink", "--host", "127.0.0.1", "--port", str(port), *store)
        for _ in range(sites):
            start(
                "flower-supernode",
                *("--superlink", f"127.0.0.1:{port}"),
                *("--host", "127.0.0.1", "--port", str(free_port())),
            )
        config = folder / "config.toml"
        config.write_text(
            f"sites = {sites}\nrounds = {rounds}\nsizes = {json.dumps(','.join(map(str, sizes)))}\n"
            f"result = {json.dumps(str(result))}\n"
        )
        _submit(app, config, environment, home)
        wait_until(result.is_file, what="Flower's app ended", timeout=3600.0, child=children[0])
        wait_until(lambda: bool(result.read_text()), what="its seconds were written", timeout=10.0)
    found: dict[str, list[float]] = json.loads(result.read_text())
    return found


def _write_app(folder: Path) -> Path:
    app = folder / "flowers-own"
    (app / "own").mkdir(parents=True)
    (app / "LICENSE").write_text("none\n")
    (app / "pyproject.toml").write_text(_PROJECT)
    (app / "own" / "__init__.py").write_text("")
    (app / "own" / "server.py").write_text(_SERVER)
    (app / "own" / "client.py").write_text(_CLIENT)
    return app


def _submit(app: Path, config: Path, environment: dict[str, str], home: Path) -> None:
    """Hand the app to the SuperLink, again until it answers."""
    command = [flower_program("flwr"), "run", str(app), "own", "--run-config", str(config)]
    said: list[str] = []

    def submitted() -> bool:
        done = subprocess.run(
            command, cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        said.append(done.stdout + done.stderr)
        return done.returncode == 0

    try:
        wait_until(submitted, what="the SuperLink took the app", timeout=90.0)
    except Exception as error:
        raise SystemExit(f"{error}\n{said[-1]}") from None


def main() -> None:
    """Measure once and print the seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="1000,10", help="entries of each array")
    parser.add_argument("--database", action="store_true", help="SQLite in place of memory")
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
        found = measure(
            sizes, sites=args.sites, rounds=args.rounds, folder=Path(folder), database=args.database
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
