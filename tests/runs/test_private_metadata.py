"""run.json of a private run: each site's public number of units, no other count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.data.dataset import load_site, load_test
from primia_flwr.errors import ConfigError
from primia_flwr.pipeline.experiment import settle
from primia_flwr.runs.metadata import data_facts


@pytest.mark.parametrize("unit", ["patient", "image"])
def test_a_private_run_writes_down_units_alone(unit: str, tmp_path: Path) -> None:
    cfg = DataConfig(
        layout="synthetic",
        cache_dir=str(tmp_path),
        image_size=16,
        synthetic=SyntheticConfig(patients=40),
    )
    sites = [load_site(cfg, seed=1, site_index=i, num_sites=2) for i in range(2)]
    test = load_test(cfg, seed=1)
    facts = data_facts(sites, test, private_unit=unit)
    expected = []
    for site in sites:
        both = site.train.joined(site.val)
        units = set(both.patients if unit == "patient" else both.files)
        expected.append({"site": site.name, f"{unit}s": len(units)})
    assert facts["sites"] == expected
    assert facts["test"] == {"n": len(test)}
    assert set(facts) == {"synthetic", "classes", "sites", "test"}
    assert "label_counts" not in json.dumps(facts)
    assert set(data_facts(sites, test)["sites"][0]) == {"site", "train", "val", "label_counts"}


def test_a_private_run_does_not_begin_with_weights_of_its_patients(tmp_path: Path) -> None:
    """Refused before anything is read or started; a statement lets it begin."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"")
    private = ("privacy=dp_sgd", "aggregation=secure", "model=simpleconv", "model.norm=group")
    text = (*private, f"model.weights={weights}")
    experiment = parse(Experiment, compose("config", [*text]))
    with pytest.raises(ConfigError, match="a private run may start from"):
        settle(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    stated = [*text, "privacy.weights_without_patients=true"]
    settle(parse(Experiment, compose("config", stated)), tmp_path / "run")
