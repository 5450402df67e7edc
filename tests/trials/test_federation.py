"""What a trial deals to its sites, before anything is started."""

from __future__ import annotations

import csv
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.config import rows
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment
from primia_flwr.config.rows import add_plugins
from primia_flwr.data.dataset import load_site, load_test
from primia_flwr.pipeline.experiment import settle
from primia_flwr.site.policy import SitePolicy
from primia_flwr.site.terms import check_terms
from primia_flwr.trials.federation import _forget_keys, _policy, deployed, loopback_federation


def noise_image(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def experiment_of(folder: Path, *words: str) -> Experiment:
    """Return an experiment over 28 patients, and one under another name with the same picture."""
    for label, first in (("ill", 0), ("well", 100)):
        for number in range(first, first + 14):
            for name in ("a.png", "b.png"):
                path = folder / "scans" / label / f"p{number}" / name
                noise_image(path, seed=2 * number + (name == "b.png"))
    twin = folder / "scans" / "ill" / "twin" / "a.png"
    twin.parent.mkdir()
    shutil.copyfile(folder / "scans" / "ill" / "p3" / "a.png", twin)
    data = ["data.layout=folder", f"data.root={folder / 'scans'}", "data.image_size=16"]
    return compose_experiment([*data, f"data.cache_dir={folder / 'cache'}", *words])


@pytest.mark.parametrize(
    "words",
    [
        ["strategy=ensemble", "strategy.options.vote=insulearn"],
        ["aggregation=plain", "debug.cross_site=true"],
        ["aggregation=plain"],
    ],
)
def test_the_policies_of_a_trial_allow_what_it_asks(words: list[str]) -> None:
    experiment = compose_experiment(words)
    policy = SitePolicy("munich", "127.0.0.1:9391", **_policy(experiment))
    check_terms(asdict(experiment), policy, "")
    assert (policy.allow_relay == "yes") == experiment.crosses_sites


def test_sites_of_a_trial_hold_what_simulated_ones_do(tmp_path: Path) -> None:
    asked = experiment_of(tmp_path, "privacy=none", "name=demo", "federation.min_sites=3")
    experiment = settle(asked, tmp_path / "run")
    federation = loopback_federation(experiment, tmp_path / "run" / "trial")
    test = load_test(experiment.data, seed=experiment.seed)
    names = experiment.federation.sites
    for index, name in enumerate(names):
        own = load_site(
            experiment.data,
            seed=experiment.seed,
            site_index=index,
            num_sites=len(names),
            site_names=names,
        )
        with (tmp_path / "run" / "trial" / "data" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["path"] for row in rows} == {*own.train.files, *own.val.files}
        assert not {row["path"] for row in rows} & set(test.files)
    run = deployed(experiment, federation)
    assert run.deployment.trial
    assert run.data.classes == ["ill", "well"]
    keys = list((tmp_path / "run" / "trial").rglob("*.key"))
    assert keys
    _forget_keys(tmp_path / "run" / "trial")
    assert not [key for key in keys if key.exists()]


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["data.task=grade"], "plugin:grade"),
        (["task=segmentation", "model=unet"], "segmentation"),
    ],
)
def test_a_site_of_a_trial_says_what_its_labels_are_for(
    words: list[str], known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_PLUGINS", [])
    add_plugins(Path(__file__).parents[1] / "tasks" / "second")
    assert _policy(compose_experiment(words))["data_task"] == known
