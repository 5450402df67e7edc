"""run.json of a private run: each site's public number of units, no other count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.config.data import DataConfig, SyntheticConfig
from primia_flwr.data.dataset import load_site, load_test
from primia_flwr.federation.facts import data_facts


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
    assert "class_counts" not in json.dumps(facts)
    assert set(data_facts(sites, test)["sites"][0]) == {"site", "train", "val", "class_counts"}
