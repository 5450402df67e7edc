"""`primia attack` on a recorded run, in this process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from primia_flwr.attacks.inversion.targets import TARGETS
from primia_flwr.cli.analysis.attack import TARGET_NAMES, AttackConfig, run
from primia_flwr.cli.main import run as primia
from primia_flwr.config.experiment.data import SyntheticConfig
from primia_flwr.errors import CheckpointError, ConfigError
from primia_flwr.runs.received import FOLDER
from tests.attacks.recorded import experiment_of, record, secure


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    return record(experiment_of(folder), folder / "run")


def _config(recorded: Path, output: Path, **changes: Any) -> AttackConfig:
    cfg = AttackConfig(
        run=str(recorded), target="single_image", images=2, iterations=4, output=str(output),
        quiet=True, device="cpu",
    )  # fmt: skip
    return replace(cfg, **changes)


def test_it_writes_figures_pictures_a_page_and_the_images(recorded: Path, tmp_path: Path) -> None:
    result = run(_config(recorded, tmp_path))
    assert set(result["arms"]) == {"single_image", "noise"}
    assert result["synthetic"] is True
    written = json.loads((tmp_path / "attack.json").read_text())
    assert len(written["images"]) == 4
    assert written["tests"]["against_control"][0]["arm"] == "single_image"
    assert {row["recovered_label"] == row["label"] for row in written["images"][:2]} == {True}
    images = load_file(tmp_path / "reconstructions.safetensors")
    assert images["reconstructions"].shape == images["originals"].shape == (4, 1, 16, 16)
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "attack.html").read_text()
    assert "of no patient" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_what_is_finished_is_kept_unless_the_search_is_another(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(_config(recorded, tmp_path, images=1, control=False))
    (part,) = (tmp_path / "parts").iterdir()
    before = part.stat().st_mtime_ns
    run(_config(recorded, tmp_path, images=2, control=False))
    assert part.stat().st_mtime_ns == before
    assert len(list((tmp_path / "parts").iterdir())) == 2
    run(_config(recorded, tmp_path, images=1, control=False, iterations=5))
    assert part.stat().st_mtime_ns > before


def test_a_dry_run_writes_nothing(recorded: Path, tmp_path: Path) -> None:
    planned = run(_config(recorded, tmp_path / "out", dry_run=True))
    assert planned["updates"] == [
        "single_image: a, round 2", "single_image: b, round 2",
        "noise: a, round 2", "noise: b, round 2",
    ]  # fmt: skip
    assert planned["iterations"] == 16
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["masked_update", "secure_sum"])
def test_a_secure_run(target: str, tmp_path: Path) -> None:
    folder = record(secure(experiment_of(tmp_path)), tmp_path / "run")
    result = run(_config(folder, tmp_path / "out", target=target, images=3, control=False))
    assert result["arms"][target]["n"] == 3
    assert result["tests"] is None


@pytest.fixture(scope="module")
def crafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a secure run of 8 rounds that recorded nothing."""
    folder = tmp_path_factory.mktemp("crafted")
    experiment = secure(experiment_of(folder, batch_size=2))
    experiment = replace(
        experiment,
        data=replace(experiment.data, synthetic=SyntheticConfig(patients=60), test_fraction=0.5),
        federation=replace(experiment.federation, rounds=8),
    )
    run_dir = record(experiment, folder / "run")
    (run_dir / FOLDER).rename(folder / "elsewhere")
    return run_dir


@pytest.mark.parametrize("kind", ["norm", "within_bounds"])
def test_a_crafted_model(kind: str, crafted: Path, tmp_path: Path) -> None:
    cfg = _config(crafted, tmp_path, target="crafted_model", crafted=kind, images=1)
    result = run(cfg)
    assert set(result["arms"]) == {"crafted_model", "honest_model", "noise"}
    made, honest = (
        [row for row in result["sums"] if row["arm"] == arm and row["best_cosine"] != 0]
        for arm in ("crafted_model", "honest_model")
    )
    assert len(made) == len(honest) == 1
    assert made[0]["with_gradient"] < made[0]["images"]
    assert honest[0]["with_gradient"] == honest[0]["images"]
    assert ("features.13.bias has -10000" in made[0]["refused"]) == (kind == "norm")
    assert honest[0]["refused"] == ""
    written = json.loads((tmp_path / "attack.json").read_text())
    assert written["settings"]["crafted"] == kind
    assert written["sums"] == result["sums"]
    page = (tmp_path / "attack.html").read_text()
    assert "The opened sums" in page
    assert ("refuses it" in page) == (kind == "norm")


def test_a_dry_run_of_a_crafted_model(crafted: Path, tmp_path: Path) -> None:
    cfg = _config(crafted, tmp_path / "out", target="crafted_model", images=1, dry_run=True)
    arms = [line.partition(": ")[0] for line in run(cfg)["updates"]]
    assert arms == ["crafted_model", "honest_model", "noise"]
    assert not (tmp_path / "out").exists()


def test_the_page_of_a_sum_says_whose_coordinator_it_is(tmp_path: Path) -> None:
    folder = record(secure(experiment_of(tmp_path)), tmp_path / "run")
    run(_config(folder, tmp_path / "out", target="secure_sum", images=1, control=False))
    page = (tmp_path / "out" / "attack.html").read_text()
    assert "Honest coordinator" in page
    assert "The opened sums" not in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": ""}, "run is empty; expected the output folder"),
        ({"run": "nowhere"}, "run=nowhere; expected an existing output folder"),
        ({"features": "nowhere"}, "features=nowhere; expected an existing output folder"),
        ({"target": "secure_sum"}, "of a plain run; expected a run with aggregation=secure"),
        ({"leave_out": ["features", "classifier"]}, "leaves nothing to compare"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    changes: dict[str, Any], message: str, recorded: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(_config(recorded, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_a_run_without_received_bytes(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.json", "model.safetensors", "config.yaml"):
        (tmp_path / name).write_bytes((recorded / name).read_bytes())
    assert primia(["attack", f"run={tmp_path}"]) == 2
    assert "debug.record_received=true" in capsys.readouterr().err
    (tmp_path / FOLDER).symlink_to(recorded / FOLDER)
    (tmp_path / "model.json").unlink()
    with pytest.raises(CheckpointError, match=r"model\.json"):
        run(_config(tmp_path, tmp_path / "out"))


def test_a_bad_key_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert primia(["attack", "run=x", "target=secure_sums"]) == 2
    assert "did you mean secure_sum?" in capsys.readouterr().err
    assert primia(["attack", "run=x", "iterations=0"]) == 2
    assert "iterations=0" in capsys.readouterr().err


def test_the_verb_knows_every_target() -> None:
    assert set(TARGET_NAMES) == set(TARGETS)
