"""Rounds of Flower's own SecAgg+, or of its plain FedAvg, in Flower's simulation: wall time each.

SecAgg+ exists for the legacy strategies only. A client trains nothing: it adds a constant to
the model, so that what comes out can be checked. `secagg_rounds` starts this in a process of
its own, because Flower's simulation leaves Ray behind.

    python -m primia_bench.secagg.flower_secagg --sites 5 --rounds 3 --secure --output rounds.json
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import NDArrays, Scalar, ndarrays_to_parameters
from flwr.compat.server.typing import Workflow
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_PARAMS_RECORD
from flwr.server.workflow.default_workflows import (
    default_evaluate_workflow,
    default_fit_workflow,
)
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

STEP = 2.0**-8  # what a client adds to each entry
_EXAMPLES = 100
_TOLERANCE = 1e-4  # SecAgg+ rounds to 2^22 levels of -8 to 8, scaled by the weight


class ConstantClient(NumPyClient):
    """Adds a constant instead of training."""

    def fit(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """Return the model and a constant."""
        return [array + np.float32(STEP) for array in parameters], _EXAMPLES, {}

    def evaluate(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[float, int, dict[str, Scalar]]:
        """Return a loss without looking."""
        return 0.0, _EXAMPLES, {}


class Timed:
    """A workflow of one exchange, or of one protocol, and how long each of its rounds took."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self.seconds: list[float] = []

    def __call__(self, grid: Grid, context: Context) -> None:
        """Run one round of it."""
        started = time.monotonic()
        self._workflow(grid, context)
        self.seconds.append(round(time.monotonic() - started, 3))


def measure(
    model: NDArrays, *, sites: int, rounds: int, secure: bool, workers: int
) -> dict[str, list[float]]:
    """Return the seconds of each round's training and evaluation."""
    secagg = SecAggPlusWorkflow(num_shares=sites, reconstruction_threshold=sites // 2 + 1)
    train = Timed(secagg if secure else default_fit_workflow)
    evaluate = Timed(default_evaluate_workflow)
    server, finals = ServerApp(), []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            min_fit_clients=sites,
            min_evaluate_clients=sites,
            min_available_clients=sites,
            initial_parameters=ndarrays_to_parameters(model),
        )
        legacy = LegacyContext(context, ServerConfig(num_rounds=rounds), strategy)
        DefaultWorkflow(train, evaluate)(grid, legacy)
        finals.append(legacy.state.array_records[MAIN_PARAMS_RECORD].to_numpy_ndarrays())

    client = ClientApp(_client, mods=[secaggplus_mod] if secure else [])
    run_simulation(
        server,
        client,
        num_supernodes=sites,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": workers, "log_to_driver": False},
        },
    )
    _check(model, finals[0], rounds)
    return {"train": train.seconds, "evaluate": evaluate.seconds}


def _client(_: Context) -> Client:
    return ConstantClient().to_client()


def _check(first: NDArrays, last: NDArrays, rounds: int) -> None:
    """Refuse to time rounds that did nothing: a workflow that fails only says so in its log."""
    for before, after in zip(first, last, strict=True):
        error = np.abs(after - before - rounds * STEP).max()
        if error > _TOLERANCE:
            raise SystemExit(f"the model is off by {error:g}; expected at most {_TOLERANCE:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2, help="clients at a time")
    parser.add_argument(
        "--sizes", default="11200000", help="entries of each array, comma-separated"
    )
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    generator = np.random.default_rng(1)
    model = [
        generator.normal(0.0, 0.05, int(size)).astype(np.float32) for size in args.sizes.split(",")
    ]
    seconds = measure(
        model, sites=args.sites, rounds=args.rounds, secure=args.secure, workers=args.workers
    )
    Path(args.output).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
