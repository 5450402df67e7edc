"""The fingerprint of a federation of sites with volumes: that of all volumes in one place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from primia_flwr.config.load import load_experiment
from primia_flwr.data.dataset import deal_sites
from primia_flwr.data.fingerprint.facts import fingerprint
from primia_flwr.data.fingerprint.sums import Counts
from primia_flwr.data.layouts.msd import volume_counts
from primia_flwr.runs.metadata import read_json
from tests.data.layouts.test_msd import decathlon
from tests.e2e.in_memory import without_processes
from tests.e2e.runner import InProcess

SITES = ("a", "b", "c")
WORDS = (
    "task=segmentation", "model=unet_small", "data=msd", "data.root=in", "data.cache_dir=cache",
    "data.image_size=16", "data.volumes.fingerprint=true", "data.volumes.levels=[0,4095]",
    f"federation.sites=[{','.join(SITES)}]", "federation.min_sites=3", "federation.rounds=1",
    "baselines=[]", "tracking=disabled", "report.saliency=0", "quiet=true", "training.threads=1",
)  # fmt: skip


@pytest.mark.parametrize("aggregation", ["secure", "plain"])
def test_it_is_that_of_all_training_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aggregation: str
) -> None:
    decathlon(tmp_path, cases=14)
    monkeypatch.chdir(tmp_path)
    with without_processes():
        done = InProcess(tmp_path)("train", *WORDS, f"aggregation={aggregation}", "output_dir=run")
    assert done.returncode == 0, done.stderr
    found = read_json(tmp_path / "run/fingerprint.json")
    experiment = load_experiment((tmp_path / "run/config.yaml").read_text())
    cfg = experiment.data
    dealt = deal_sites(cfg, seed=experiment.seed, num_sites=3, site_names=SITES)
    files = [file for index in range(3) for file in dealt.open(index).train.files]
    pooled, classes = volume_counts(cfg, files)
    assert found == fingerprint(pooled, classes, (0.0, 4095.0))
    assert found["cases"] == len({Path(file).parts[1] for file in files}) >= 6
    alone = [volume_counts(cfg, dealt.open(n).train.files)[0].vector() for n in range(3)]
    assert Counts.read(np.sum(alone, axis=0).tolist()).vector() == pooled.vector()


def test_a_search_has_one_of_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decathlon(tmp_path, cases=14)
    monkeypatch.chdir(tmp_path)
    with without_processes():
        search = ("search=demo", "search.population=2", "federation.rounds=2")
        done = InProcess(tmp_path)("train", *WORDS, *search, "output_dir=run")
    assert done.returncode == 0, done.stderr
    found = read_json(tmp_path / "run/fingerprint.json")
    assert list(found["labelled_voxels"]) == ["background", "liver", "tumour"]
    assert not list((tmp_path / "run/search").glob("*/fingerprint.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("privacy=dp_sgd", "model.norm=group", "model.weight_standardisation=true"),
         "exact counts of volumes have no finite epsilon"),
        (("strategy=cyclic", "aggregation.sealed=true", "data.normalisation.kind=fixed"),
         "data.volumes.fingerprint=true with aggregation.sealed=true; expected false"),
        (("data.layout=paired",), "expected data.layout=msd"),
    ],
)  # fmt: skip
def test_where_exact_counts_may_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    decathlon(tmp_path, cases=2)
    monkeypatch.chdir(tmp_path)
    done = InProcess(tmp_path)("train", *WORDS, *words, "output_dir=run")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_trial_has_no_folders_of_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = InProcess(tmp_path)("federation", "trial", *WORDS, "output_dir=run")
    assert done.returncode == 2
    assert "data.volumes.fingerprint=true in a trial; expected false" in done.stderr
    assert not (tmp_path / "run").exists()
