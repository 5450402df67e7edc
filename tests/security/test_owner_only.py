"""What tells of patients is written for its owner only, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.cli import main
from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.data.files.store import open_store
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.evaluation.explain.cases import ExplainedCase, Explanation, write_cases
from primia_flwr.evaluation.predictions import write_predictions
from primia_flwr.storage.atomic import write_result
from primia_flwr.tasks.classes.judge import JUDGE
from primia_flwr.tasks.predictions import Predictions


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def assert_closed(folder: Path) -> None:
    found = [folder, *folder.rglob("*")]
    assert len(found) > 1
    for path in found:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_the_cache_of_decoded_images(tmp_path: Path) -> None:
    for label in ("ill", "well"):
        for number in range(3):
            path = tmp_path / "scans" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20), number, np.uint8)).save(path)
    cfg = DataConfig(
        layout="folder", root=str(tmp_path / "scans"), cache_dir=str(tmp_path / ".primia/cache")
    )
    store = open_store(read_manifest(cfg, seed=1), cfg)
    assert_closed(store.folder)
    assert stat.S_IMODE(store.folder.parent.stat().st_mode) == 0o700
    assert store.rows(["ill/0.png"]).shape == (1, 1, 64, 64)


def test_synthetic_images_too(tmp_path: Path) -> None:
    cfg = DataConfig(
        layout="synthetic", synthetic=SyntheticConfig(patients=6), cache_dir=str(tmp_path / "cache")
    )
    root = read_manifest(cfg, seed=1).root
    for path in (root, *root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_predictions_results_cases_and_manifests(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    outputs = np.array([[0.25, 0.75]])
    made = Predictions(("a.png",), ("P1",), np.array([1]), outputs, ("ill", "well"))
    write_predictions(folder / "predictions.csv", made, JUDGE)
    write_result(folder / "report.html", "<html>")
    picture = np.zeros((8, 8), np.uint8)
    case = ExplainedCase(1, "ill", "well", 0.75, picture, picture)
    write_cases(folder / "saliency", Explanation("layer", 8, "test", (case,)))
    assert_closed(folder)


def test_the_manifests_of_sites(tmp_path: Path) -> None:
    cfg = DataConfig(
        layout="synthetic", synthetic=SyntheticConfig(patients=6), cache_dir=str(tmp_path / "cache")
    )
    read_manifest(cfg, seed=1).write_csv(tmp_path / "partition" / "site.csv")
    assert_closed(tmp_path / "partition")


def test_all_that_the_command_line_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "run", lambda words: 0)
    with pytest.raises(SystemExit):
        main.main(["--version"])
    assert os.umask(0) == 0o077
