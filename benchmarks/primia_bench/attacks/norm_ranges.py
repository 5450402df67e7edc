"""How far training moves norm layers and kernels: what the bounds on an arriving model allow for.

Trains the models of the table with the product's own training, with both norms, several optimisers
and learning rates, on real radiographs or synthetic ones, and keeps the extremes that any state had
after any round: magnitude of scale and bias, the layer's largest scale over its median, the share
of shut channels, running statistics, every other number. Trainings at rates that are far too high
are listed apart: they may leave the bounds, and a site then refuses what has come of them. With
`--server-adam` the model takes FedAdam's step after every epoch instead. No image and no file name
of the data is written.

    python -m primia_bench.attacks.norm_ranges --data ../shared/data/chest_xray \
        --output benchmarks/results/norm_ranges.json
    python -m primia_bench.attacks.norm_ranges --data ../shared/data/chest_xray --server-adam \
        --output benchmarks/results/norm_ranges_server_adam.json
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.data.dataset import LabelledImages, load_pooled
from primia_flwr.errors import DivergenceError, ProtocolError
from primia_flwr.models.arrival import (
    DEFAULT_BOUNDS,
    STATISTICS,
    check_arrived,
    norm_layers,
    shut_share,
    spread,
)
from primia_flwr.models.registry import build_model
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import LocalPlan
from primia_flwr.training.recipe import Recipe

ROUNDS = 12  # looks at a training
TOO_HIGH = 0.2  # of SGD with momentum 0.9, at a constant rate and batches of 8
SERVER_ROUNDS = 70  # of FedAdam at its default rate
NORMALISATION = Normalisation((0.5,), (0.25,))


@dataclass(frozen=True)
class Case:
    """One training; `epochs` over the subset of images."""

    model: ModelConfig
    optimizer: str
    learning_rate: float
    epochs: int
    schedule: str = "constant"
    weight_decay: float = 0.0

    @property
    def too_high(self) -> bool:
        """Whether the rate is far above what these models are trained with."""
        return self.optimizer == "sgd" and self.learning_rate >= TOO_HIGH

    @property
    def title(self) -> str:
        """What a reader needs to tell it from the others."""
        model = self.model
        parts = [model.name, model.norm, "ws" if model.weight_standardisation else "", model.pool]
        name = " ".join(part for part in parts if part and part != "avg")
        how = f"{self.optimizer} {self.learning_rate:g} {self.schedule}"
        return f"{name}, {how}, {self.epochs} epochs"


@dataclass(frozen=True)
class Extremes:
    """The largest of each quantity that the check bounds."""

    scale: float = 0.0
    bias: float = 0.0
    spread: float = 0.0
    shut_share: float = 0.0
    statistic: float = 0.0
    value: float = 0.0

    def joined(self, other: "Extremes") -> "Extremes":
        """Return the larger of each."""
        both = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Extremes(**{name: max(a, b) for name, a, b in both})


def cases(epochs: int) -> Iterator[Case]:
    """Yield the trainings, the small model's longer than the large ones'."""
    rates = [("sgd", 0.02), ("sgd", 0.2), ("adamw", 1e-3), ("adamw", 1e-2)]
    for norm, (optimizer, rate) in product(("batch", "group"), rates):
        small = ModelConfig(name="simpleconv", norm=norm)
        yield Case(small, optimizer, rate, 10 * epochs)
        yield Case(ModelConfig(name="resnet18", norm=norm), optimizer, rate, epochs)
    for norm in ("batch", "group"):
        small = ModelConfig(name="simpleconv", norm=norm)
        yield Case(small, "sgd", 1.0, 10 * epochs)
        yield Case(small, "adamw", 1e-3, 40 * epochs, "one_cycle", 0.05)
        yield Case(replace(small, pool="max"), "adamw", 1e-2, 10 * epochs)
        yield Case(
            ModelConfig(name="resnet18", norm=norm), "adamw", 1e-3, 2 * epochs, "one_cycle", 0.05
        )
        for name, rate in product(("resnet34", "resnet50", "vgg16"), (1e-3, 1e-2)):
            yield Case(ModelConfig(name=name, norm=norm), "adamw", rate, max(1, epochs // 4))
    standardised = ModelConfig(name="resnet18", norm="group", weight_standardisation=True)
    yield Case(standardised, "adamw", 1e-2, epochs)
    yield Case(replace(standardised, name="simpleconv"), "adamw", 1e-2, 10 * epochs)


def server_cases() -> Iterator[Case]:
    """Yield the trainings of which each epoch is a round, stepped by FedAdam."""
    for norm in ("batch", "group"):
        yield Case(ModelConfig(name="simpleconv", norm=norm), "adamw", 1e-3, SERVER_ROUNDS)
        yield Case(ModelConfig(name="resnet18", norm=norm), "adamw", 1e-3, SERVER_ROUNDS // 3)


class ServerAdam:
    """FedAdam's step with the defaults of `strategy=fedadam` (Reddi et al. 2021, algorithm 2)."""

    def __init__(self) -> None:
        self._first: dict[str, torch.Tensor] = {}
        self._second: dict[str, torch.Tensor] = {}

    def step(self, model: nn.Module, before: dict[str, torch.Tensor]) -> None:
        """Move a trained model's parameters from `before` by Adam's step along the update."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                change = parameter - before[name]
                first = 0.9 * self._first.get(name, 0.0) + 0.1 * change
                second = 0.99 * self._second.get(name, 0.0) + 0.01 * change.square()
                self._first[name], self._second[name] = first, second
                parameter.copy_(before[name] + 0.1 * first / (second.sqrt() + 1e-3))


def extremes_of(model: nn.Module) -> Extremes:
    """Measure a model as the check at a site does."""
    found, norms = Extremes(), set[str]()
    for name, layer in norm_layers(model):
        scale, bias = layer.weight.detach(), layer.bias.detach()  # type: ignore[operator]
        norms.update((f"{name}.weight", f"{name}.bias"))
        found = found.joined(
            Extremes(_largest(scale), _largest(bias), spread(scale), shut_share(scale, bias))
        )
    for name, array in model.state_dict().items():
        if array.is_floating_point() and name not in norms:
            statistic = name.rpartition(".")[2] in STATISTICS
            size = _largest(array)
            found = found.joined(Extremes(statistic=size) if statistic else Extremes(value=size))
    return found


def measure(case: Case, images: LabelledImages, server: ServerAdam | None = None) -> dict[str, Any]:
    """Train one case; return the extremes over its rounds."""
    start = time.perf_counter()
    model = build_model(case.model, outputs=len(images.classes), channels=1, seed=1)
    training = TrainingConfig(
        optimizer=case.optimizer, learning_rate=case.learning_rate, schedule=case.schedule,
        min_learning_rate=case.learning_rate / 1000, warmup=0.3, weight_decay=case.weight_decay,
        batch_size=8, optimizer_state="keep", threads=1, device="cpu",
    )  # fmt: skip
    recipe = Recipe(training, NORMALISATION, seed=1)
    steps = case.epochs * -(-len(images) // 8)
    a_round = max(1, steps // (case.epochs if server else ROUNDS))
    found, done, state, passes = extremes_of(model), 0, None, True
    while done + a_round <= steps:
        plan = LocalPlan(done, steps, max_batches=a_round)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        try:
            result = fit(model, images, None, recipe, plan, optimizer_state=state)
        except DivergenceError:
            break
        if server:
            server.step(model, before)
        state, done = result.optimizer_state, done + a_round
        found, passes = found.joined(extremes_of(model)), passes and _passes(model)
    return {
        "case": case.title,
        "steps": done,
        "rate_too_high": case.too_high,
        "diverged": done + a_round <= steps,
        "passes": passes,
        **{key: float(f"{value:.4g}") for key, value in asdict(found).items()},
        "seconds": round(time.perf_counter() - start, 1),
    }


def images_for(data: str, count: int, size: int, cache: str) -> LabelledImages:
    """Return so many training images, real where a folder is given."""
    cfg = DataConfig(
        layout="pneumonia" if data else "synthetic", root=data, image_size=size, cache_dir=cache,
        classes=["bacterial", "normal", "viral"], synthetic=SyntheticConfig(patients=2 * count),
    )  # fmt: skip
    pooled = load_pooled(cfg, seed=1, num_sites=1).train
    order = torch.randperm(len(pooled), generator=torch.Generator().manual_seed(1))
    return pooled.select(order[:count])


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the extremes over some trainings with the bounds and how far these are off."""
    bounds = asdict(DEFAULT_BOUNDS)
    largest = {}
    for quantity in (item.name for item in fields(Extremes)):
        row = max(rows, key=lambda row: row[quantity])
        bound = bounds[f"max_{quantity}"]
        largest[quantity] = {
            "largest": row[quantity],
            "of": row["case"],
            "bound": bound,
            "margin": round(bound / row[quantity], 2) if row[quantity] else None,
        }
    return largest


def _largest(array: torch.Tensor) -> float:
    return float(array.abs().max())


def _passes(model: nn.Module) -> bool:
    try:
        check_arrived(model)
    except ProtocolError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="", help="folder of the radiographs; empty: synthetic")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="of an image, in pixels")
    parser.add_argument("--epochs", type=int, default=24, help="of resnet18; simpleconv ten times")
    parser.add_argument("--server-adam", action="store_true", help="steps of FedAdam")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        root = str(Path(given.data).resolve()) if given.data else ""
        images = images_for(root, given.images, given.size, cache)
    rows = []
    for case in server_cases() if given.server_adam else cases(given.epochs):
        rows.append(measure(case, images, ServerAdam() if given.server_adam else None))
        print(rows[-1], file=sys.stderr, flush=True)
    high = [row for row in rows if row["rate_too_high"]]
    result = {
        "benchmark": "norm_ranges",
        "images": f"{len(images)} {'radiographs' if given.data else 'synthetic'}, {given.size} x "
        f"{given.size}, batches of 8",
        "extremes": summarise([row for row in rows if not row["rate_too_high"]]),
        **({"extremes_at_rates_too_high": summarise(high)} if high else {}),
        "trainings": rows,
        "machine": describe_machine(),
    }
    publish(result, given.output)


if __name__ == "__main__":
    main()
