"""What travels of a segmentation is the same in secure sums as in the plain ones, bit for bit."""

from __future__ import annotations

import csv
import hashlib
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
import torch

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.config.rows import TASKS
from primia_flwr.errors import ProtocolError
from primia_flwr.messages.secure import report_layout, statistics_layout
from primia_flwr.tasks.task import Evaluation
from strategies.aggregators.secure.plausibility import check_plausible
from tests.e2e.in_memory import without_processes
from tests.e2e.runner import TINY, InProcess

TASK = TASKS["segmentation"]


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return parse(Experiment, compose("config", ["task=segmentation", "model=unet"]))


def measured(seed: int, images: int, side: int = 16) -> Evaluation:
    torch.manual_seed(seed)
    masks = torch.randint(0, 3, (images, side, side), dtype=torch.uint8)
    logits = torch.randn(images, 3, side, side, dtype=torch.float64)
    return Evaluation(TASK, 2.0 * images, images, TASK.measure(logits, masks)[1])


def values_of(found: Evaluation) -> dict[str, list[float]]:
    return {
        "incoming-examples": [found.num_examples],
        "incoming-loss-sum": [found.loss_sum],
        **{f"incoming-{name}": of.tolist() for name, of in found.counts.items()},
    }


def test_the_sums_of_three_sites_are_those_of_their_images(experiment: Experiment) -> None:
    sites = [measured(seed, images) for seed, images in enumerate((3, 5, 9))]
    layout = report_layout(experiment, 0, 3)
    encoded = [layout.encode(None, values_of(site)) for site in sites]
    totals = [
        np.sum(column, axis=0, dtype=column[0].dtype) for column in zip(*encoded, strict=True)
    ]
    sums = layout.numbers_of(totals)
    check_plausible(layout, totals, sums, 3, task=TASK)
    counts = {s.name: sums[f"incoming-{s.name}"] for s in TASK.sums(3)}
    (loss,), (examples,) = sums["incoming-loss-sum"], sums["incoming-examples"]
    assert Evaluation.of(TASK, 3, loss, examples, counts).figures() == reduce(add, sites).figures()


def test_a_radiograph_of_every_patient_of_a_large_site_fits(experiment: Experiment) -> None:
    """A hundred thousand images of 512 pixels: more pixels than there may be images."""
    layout, images = report_layout(experiment, 0, 3), 100_000
    found = Evaluation(TASK, 1.0, images, {
        "pixel-counts": np.diag([images * 512**2 - 2, 1, 1]).ravel(),
        "dice-sums": np.array([1_000_000, 1_000_000]), "cases": np.array([1, 1]),
    })  # fmt: skip
    totals = layout.encode(None, values_of(found))
    check_plausible(layout, totals, layout.numbers_of(totals), 1, task=TASK)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"incoming-pixel-counts": [1.0] * 8 + [0.0]}, "counts 8 pixels, not as many in each of 3"),
        ({"incoming-cases": [4.0, 0.0]}, "cases counts 4 images, not the 3"),
        ({"incoming-dice-sums": [3_000_001.0, 0.0]}, "a Dice above 1"),
        ({"incoming-examples": [0.0]}, "pixels of no image"),
    ],
)
def test_what_no_sites_can_have_counted_is_refused(
    experiment: Experiment, changed: dict[str, list[float]], words: str
) -> None:
    layout = report_layout(experiment, 0, 3)
    values = {**values_of(measured(0, 3)), **changed}
    totals = layout.encode(None, values)
    with pytest.raises(ProtocolError, match=words):
        check_plausible(layout, totals, layout.numbers_of(totals), 1, task=TASK)


def test_sizes_follow_from_the_classes(experiment: Experiment) -> None:
    sizes = {number.name: number.size for number in report_layout(experiment, 0, 4).numbers}
    assert (sizes["local-pixel-counts"], sizes["local-dice-sums"], sizes["local-cases"]) == (
        16,
        3,
        3,
    )
    statistics = {n.name: n.size for n in statistics_layout(experiment, 4).numbers}
    assert statistics["label-counts"] == 4


def test_secure_aggregation_gives_the_plain_model(tmp_path: Path) -> None:
    words = [
        *(word for word in TINY if not word.startswith(("model=", "data."))),
        *("data.synthetic.patients=30", "data.image_size=16"),
        *("task=segmentation", "model=unet", "federation.rounds=1", "strategy.weight_digits=2"),
    ]
    runs = [tmp_path / name for name in ("secure", "plain")]
    with without_processes():
        for run in runs:
            own = (f"aggregation={run.name}", f"output_dir={run}")
            done = InProcess(tmp_path)("train", *words, *own)
            assert done.returncode == 0, done.stderr
    secure, plain = ((run / "model.safetensors").read_bytes() for run in runs)
    assert hashlib.sha256(secure).hexdigest() == hashlib.sha256(plain).hexdigest()
    rows = [list(csv.DictReader((run / "history.csv").open())) for run in runs]
    figures = [[(row["val_dice"], row["val_iou"]) for row in of_run] for of_run in rows]
    assert figures[0] == figures[1]
    assert "mask,prediction,dice_background" in (runs[0] / "predictions.csv").read_text()
    assert "Each class but the background" in (runs[0] / "report.html").read_text()
