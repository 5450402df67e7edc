from __future__ import annotations

import os
from pathlib import Path

import pytest

from primia_flwr.config.experiment.data import DataConfig, PartitionConfig
from primia_flwr.data.check import check_data
from primia_flwr.data.manifest import shared_patients
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.data.split.partition import partition_over_sites

ROOT = Path(
    os.environ.get("PRIMIA_DATA") or Path(__file__).parents[3] / "shared" / "data" / "chest_xray"
)

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        not (ROOT / "train" / "PNEUMONIA").is_dir(),
        reason=f"real radiographs not found in {ROOT}; set PRIMIA_DATA to their folder",
    ),
]
CFG = DataConfig(layout="pneumonia", root=str(ROOT))


def test_counts_of_the_training_set() -> None:
    manifest = read_manifest(CFG, seed=1)
    counts = dict(zip(manifest.classes, manifest.label_counts().tolist(), strict=True))
    assert counts == {"bacterial": 2530, "normal": 1341, "viral": 1345}


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "quantity"])
def test_three_hospitals_share_no_patient(kind: str) -> None:
    manifest = read_manifest(CFG, seed=1)
    cfg = PartitionConfig(kind=kind, alpha=0.5)
    sites = partition_over_sites(manifest, cfg, num_sites=3, seed=1)
    assert shared_patients({str(i): site for i, site in enumerate(sites)}) == {}
    assert sum(map(len, sites)) == 5216
    if kind == "iid":
        assert max(map(len, sites)) - min(map(len, sites)) <= 6


def test_known_duplicates_are_found(tmp_path: Path) -> None:
    manifest = read_manifest(CFG, seed=1)
    kept = [s for s in manifest.samples if "/person134" in s.path or "/IM-" in s.path]
    manifest.with_samples(kept).write_csv(tmp_path / "part.csv")
    found = check_data(
        DataConfig(layout="manifest", root=str(ROOT), manifest=str(tmp_path / "part.csv")), seed=1
    )
    assert found.ok
    assert [
        "train/PNEUMONIA/person1343_bacteria_3413.jpeg",
        "train/PNEUMONIA/person1343_bacteria_3414.jpeg",
    ] in found.duplicates
    assert found.contradicting_duplicates == []
