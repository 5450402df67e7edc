"""A study as one case: the mean of its images' logits, one label, one row, and what is refused."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.load import compose_experiment
from primia_flwr.config.rows import TASKS
from primia_flwr.data.cases import cases_of
from primia_flwr.data.dataset import LabelledImages, load_images, load_site
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.pipeline.scoring import predictions_of
from primia_flwr.training.evaluate import evaluate, predict
from primia_flwr.training.normalisation import Normalisation

HOW: dict[str, Any] = {
    "normalisation": Normalisation((0.0,), (1.0,)),
    "batch_size": 2,
    "device": torch.device("cpu"),
}


class Twice(torch.nn.Module):
    """Logits of an image: its first pixel in hundredths, and the negative of that."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images[:, 0, 0, 0] * 2.55
        return torch.stack([bright, -bright], dim=1)


def images(studies: tuple[str, ...] = ("p\n1", "p\n1", "q\n1", "p\n1")) -> LabelledImages:
    pixels = torch.tensor([0, 60, 100, 240], dtype=torch.uint8).reshape(4, 1, 1, 1)
    labels = torch.tensor([[1, -1], [-1, 0], [0, 1], [1, -1]], dtype=torch.int8)
    return LabelledImages(
        pixels, labels, ("a", "b", "c", "d"), ("p", "p", "q", "p"), ("effusion", "nodule"),
        task=TASKS["multilabel"], studies=studies,
    )  # fmt: skip


def test_cases_by_hand() -> None:
    cases = cases_of(["x", "y", "x", "z", "x"])
    assert cases.of.tolist() == [0, 1, 0, 2, 0]
    assert cases.first.tolist() == [0, 1, 3]
    assert cases.mean(torch.tensor([[3.0], [5.0], [6.0], [7.0], [0.0]])).tolist() == [
        [3.0], [5.0], [7.0],
    ]  # fmt: skip
    labels = torch.tensor([[-1], [0], [1], [-1], [-1]], dtype=torch.int8)
    assert cases.known(labels).tolist() == [[1], [0], [-1]]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.randoms())
def test_cases_do_not_depend_on_the_order_of_their_images(names: list[str], random: Any) -> None:
    outputs = torch.arange(float(len(names))).unsqueeze(1)
    order = list(range(len(names)))
    random.shuffle(order)
    one, other = cases_of(names), cases_of([names[k] for k in order])
    first = dict(zip((names[k] for k in one.first.tolist()), one.mean(outputs), strict=True))
    again = dict(
        zip(
            (names[order[k]] for k in other.first.tolist()), other.mean(outputs[order]), strict=True
        )
    )
    assert {k: float(v) for k, v in first.items()} == pytest.approx(
        {k: float(v) for k, v in again.items()}
    )


def test_a_study_is_scored_by_the_mean_of_its_images_logits() -> None:
    """Study p1 has logits of 0, 0.6 and 2.4: their mean is 1; c is alone, with 1."""
    made = predict(Twice(), images(), **HOW)
    there = 1 / (1 + math.exp(-1))
    assert made == pytest.approx(np.array([[there, 1 - there]] * 2))
    softplus = math.log1p(math.exp(-1))
    verdict = evaluate(Twice(), images(), **HOW)
    assert verdict.num_examples == 2
    # p1: effusion present at 1, nodule absent at -1. c: effusion absent at 1, nodule present at -1.
    assert verdict.loss_sum == pytest.approx(softplus + (1 + softplus))
    alone = evaluate(Twice(), images(()), **HOW)
    assert alone.num_examples == 4


def test_a_row_a_study_named_by_its_first_image(tmp_path: Path) -> None:
    made = predictions_of(images(), predict(Twice(), images(), **HOW))
    assert made.files == ("a", "c")
    assert made.patients == ("p", "q")
    assert made.labels.tolist() == [[1, 0], [0, 1]]


SYNTHETIC = ["experiment=multilabel", "data.synthetic.patients=30", "data.image_size=16"]


def test_drawn_studies_are_validated_and_tested_as_cases(tmp_path: Path) -> None:
    cache = f"data.cache_dir={tmp_path}/cache"
    cfg = compose_experiment([*SYNTHETIC, cache, "data.case=study"]).data
    site = load_site(cfg, seed=1, site_index=0, num_sites=2)
    known = site.train.joined(site.val)
    for patient in set(known.patients):
        rows = [k for k, name in enumerate(known.patients) if name == patient]
        studies = len({known.studies[k] for k in rows})
        assert studies == (1 if len(rows) < 3 else 2)
    assert len(known.cases()) < len(known)
    by_image = load_site(compose_experiment([*SYNTHETIC, cache]).data, seed=1, site_index=0,
                         num_sites=2)  # fmt: skip
    assert by_image.val.files == site.val.files  # the split is the same
    assert by_image.val.cases().is_each_image


def table(folder: Path, text: str, **changes: Any) -> Manifest:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    Image.new("L", (8, 8)).save(folder / "a.png")
    cfg = DataConfig(task="multilabel", layout="manifest", manifest=str(folder / "t.csv"),
                     classes=["edema", "nodule"], case="study", **changes)  # fmt: skip
    return read_manifest(cfg, seed=1)


OWN = "path,patient,study,edema,nodule\na.png,P,7,1,\nb.png,p ,7.0,1,0\nc.png,Q,7,0,1\n"


def test_a_table_names_studies_of_its_patients(tmp_path: Path) -> None:
    """Spellings of a patient and of a study are one; another patient's study 7 is another."""
    manifest = table(tmp_path, OWN)
    manifest.write_csv(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["study"] for row in rows] == ["7", "7.0", "7"]
    for name in ("a.png", "b.png", "c.png"):
        pixels = np.random.default_rng(ord(name[0])).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    cfg = DataConfig(task="multilabel", classes=["edema", "nodule"], case="study", image_size=16,
                     cache_dir=str(tmp_path / "cache"))  # fmt: skip
    read = load_images(manifest, cfg)
    assert read.cases().of.tolist() == [0, 0, 1]
    assert read.cases().known(read.labels).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OWN.replace("a.png,P,7", "a.png,P,"), "a.png names no study with data.case=study"),
        (OWN.replace("study", "visit"), "a.png names no study with data.case=study; expected"),
        (
            OWN.replace("7,1,\n", "7,1,1\n"),
            "a.png and b.png are of one study, '7.0', and say 1 and 0 of nodule; expected the same",
        ),
    ],
)
def test_what_is_no_study_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        table(tmp_path, text)


def test_another_name_of_the_column(tmp_path: Path) -> None:
    found = table(tmp_path, OWN.replace("study", "visit"), columns={"study": "visit"})
    assert [sample.study for sample in found.samples] == ["7", "7.0", "7"]


def test_studies_are_of_several_findings() -> None:
    with pytest.raises(ConfigError, match=r"data.case=study with data.task=classification; expec"):
        DataConfig(case="study")
    with pytest.raises(ConfigError, match=r"data.case=.*view.*; expected"):
        DataConfig(case="view")


CHEXPERT = """Path,Edema,Fracture
train/patient00001/study1/view1_frontal.jpg,1.0,
train/patient00001/study1/view2_lateral.jpg,1.0,0.0
train/patient00001/study2/view1_frontal.jpg,0.0,1.0
"""


def test_chexpert_has_the_study_in_the_path(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(CHEXPERT, encoding="utf-8")
    view = tmp_path / "train/patient00001/study1/view1_frontal.jpg"
    view.parent.mkdir(parents=True)
    Image.new("L", (8, 8)).save(view)
    cfg = DataConfig(task="multilabel", layout="chexpert", root=str(tmp_path), case="study",
                     classes=["Edema", "Fracture"])  # fmt: skip
    assert [s.study for s in read_manifest(cfg, seed=1).samples] == ["study1", "study1", "study2"]
