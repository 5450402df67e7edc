"""Whom a model was trained on is found again, or the run is refused."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primia_flwr.attacks.membership.attacked_run import open_run, questioned
from primia_flwr.data.dataset import load_pooled
from primia_flwr.errors import CheckpointError, ConfigError, DataError
from tests.attacks.attacked_run_maker import PRIVATE, change_json, make_run


@pytest.fixture
def run_dir(tmp_path: Path, cache: Path) -> Path:
    return make_run(tmp_path / "run", cache, train=False)


def test_members_are_the_training_images_and_test_patients_are_not(run_dir: Path) -> None:
    run = open_run(run_dir)
    asked = questioned(run)
    pooled = load_pooled(run.experiment.data, seed=1, num_sites=3)
    files = np.array(asked.images.files)
    assert set(files[asked.member]) == set(pooled.train.files)
    assert not set(files) & set(pooled.val.files)
    assert asked.pool is None
    assert (asked.target.images, asked.target.sites) == (len(pooled.train), 3)


def test_in_a_private_run_all_patients_of_a_site_are_members(tmp_path: Path, cache: Path) -> None:
    run = open_run(make_run(tmp_path / "run", cache, *PRIVATE, train=False))
    asked = questioned(run)
    pooled = load_pooled(run.experiment.data, seed=1, num_sites=3)
    members = set(np.array(asked.images.files)[asked.member])
    assert members == {*pooled.train.files, *pooled.val.files}
    assert asked.target.units == len({*pooled.train.patients, *pooled.val.patients})


def test_a_hospital_asks_about_the_others_with_its_own_images(run_dir: Path) -> None:
    asked = questioned(open_run(run_dir), own_site="site-2")
    assert asked.pool is not None
    assert not set(asked.pool.patients) & set(asked.images.patients)
    whole = questioned(open_run(run_dir))
    assert asked.member.sum() < whole.member.sum()
    assert (~asked.member).sum() == (~whole.member).sum()
    assert asked.target == whole.target


def test_an_unknown_hospital_is_refused(run_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"site=site-9; .* site-1, site-2, site-3"):
        questioned(open_run(run_dir), own_site="site-9")


def test_a_run_without_model_or_configuration_is_refused(run_dir: Path) -> None:
    (run_dir / "config.yaml").rename(run_dir / "other.yaml")
    with pytest.raises(ConfigError, match=r"config\.yaml is missing"):
        open_run(run_dir)
    (run_dir / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        open_run(run_dir)


def test_another_configuration_would_deal_out_other_patients(run_dir: Path) -> None:
    path = run_dir / "config.yaml"
    path.write_text(path.read_text().replace("seed: 1\n", "seed: 2\n", 1))
    with pytest.raises(ConfigError, match="not the configuration that the model was trained with"):
        open_run(run_dir)


def test_real_sites_images_are_not_here(run_dir: Path) -> None:
    path = run_dir / "config.yaml"
    text = path.read_text().replace("kind: simulation", "kind: deployment")
    for key, value in (
        ("superlink", "fl.example.org:9391"),
        ("root_certificates", "ca.crt"),
        ("roster", "roster.yaml"),
    ):
        text = re.sub(f"  {key}: .*", f"  {key}: {value}", text)
    path.write_text(text)
    with pytest.raises(ConfigError, match="made with real sites"):
        open_run(run_dir)


def test_other_images_than_the_runs_are_refused(run_dir: Path) -> None:
    run = open_run(run_dir)
    sites = [{**run.facts["sites"][0], "train": 1000}, *run.facts["sites"][1:]]
    with pytest.raises(DataError, match=r"site-1 has train \d+, in the run it had 1000"):
        questioned(replace(run, facts={"sites": sites}))
    lines = (run_dir / "predictions.csv").read_text().splitlines()
    (run_dir / "predictions.csv").write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(DataError, match=r"2 of \d+ test images were not in the run's test set"):
        questioned(run)


def test_without_test_patients_there_are_no_non_members(run_dir: Path) -> None:
    run = open_run(run_dir)
    data = replace(run.experiment.data, test_fraction=0)
    with pytest.raises(DataError, match="expected a test set"):
        questioned(replace(run, experiment=replace(run.experiment, data=data)))


def test_a_damaged_account_of_the_run_is_named(run_dir: Path) -> None:
    change_json(run_dir / "run.json", sites=None)
    assert open_run(run_dir).facts["sites"] is None
    questioned(open_run(run_dir))
    (run_dir / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json cannot be read"):
        open_run(run_dir)
