"""The figures "bytes up" and "masking": what a client of ResNet-18's size sends and computes."""

import argparse
from typing import Any

import numpy as np

from primia_bench.secagg import mask_expansion
from primia_bench.secagg.rounds import Lost, Round, enlist
from primia_bench.secagg.rows import Row, at_least, at_most, say
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import compose, parse
from primia_flwr.messages.secure import report_layout
from primia_flwr.models import build_model
from primia_flwr.secagg.payload.layout import WEIGHT
from primia_flwr.secagg.payload.masks import Vector

CLASSES = 3
BYTES_BOUND = 1.02


def resnet18_entries() -> int:
    """Count what a site sends of a ResNet-18: its parameters and its float buffers."""
    model = build_model(ModelConfig(name="resnet18"), outputs=CLASSES, channels=1)
    return sum(t.numel() for t in model.state_dict().values() if t.is_floating_point())


def bytes_up(clients: int, entries: int) -> tuple[list[Row], dict[str, Any]]:
    """Compare the bytes that a client sends in a round with those of a float32 update.

    All messages of an instance count, and both masked vectors with the numbers of a training
    round; Flower's framing counts on neither side. The largest of all clients is taken, once
    with everybody present and once with a client that drops out before its vector, so that the
    others send signatures too.
    """
    plain = 4 * entries
    dropout = {f"s{clients:04d}": "vectors"}
    found = {
        "nobody drops out": _most_bytes_up(clients, entries, {}),
        "one drops out": _most_bytes_up(clients, entries, dropout),
    }
    say(f"bytes up: {found} of {plain}")
    rows = [
        at_most(
            "bytes up", f"secure / plain update, {clients} clients, {case}", up / plain, BYTES_BOUND
        )
        for case, up in found.items()
    ]
    return rows, {"entries": entries, "plain": plain, **found}


def _most_bytes_up(clients: int, entries: int, lost: Lost) -> int:
    members = enlist(clients)
    sites = ",".join(members)
    overrides = ["aggregation=secure", f"federation.sites=[{sites}]"]
    layout = report_layout(parse(Experiment, compose("config", overrides)), entries, CLASSES)

    def payload(name: str) -> list[Vector]:
        rng = np.random.default_rng(int(name[1:]))
        update = rng.standard_normal(entries, np.float32) / np.float32(100)
        return layout.encode(update, {WEIGHT: [1200]})

    one = Round(members, payload, lost)
    one.run()
    return max(one.costs.up.values())


def masking(entries: int, repeats: int) -> tuple[list[Row], dict[str, Any]]:
    """Measure `primia_bench.secagg.mask_expansion`: our masks against those of Flower's generator.

    A client adds all its masks in one walk over its vector: three in the smallest federation, its
    own and one for each peer; ten among ten clients. Both sides expand and add.
    """
    found = mask_expansion.measure(argparse.Namespace(entries=entries, repeats=repeats))
    ratios = found["ratios"]
    say(f"masking: {ratios} times as fast")
    what, bound = "times as fast as Flower's, expanding and adding", mask_expansion.BOUND
    rows = [
        at_least("masking", f"{what}, each of {case}", ratio, bound, timed=True)
        for case, ratio in ratios.items()
    ]
    shown = ("settings", "milliseconds", "ratios", "other_ratios")
    return rows, {key: found[key] for key in shown}
