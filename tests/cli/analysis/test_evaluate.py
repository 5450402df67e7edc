"""`primia evaluate` on small folders of images, with a real (untrained) model."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.cli.analysis.evaluate import COMMAND, EvaluateConfig, run
from primia_flwr.cli.analysis.scored_data import ScoredDataConfig
from primia_flwr.cli.command import call
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import compose, parse, to_yaml
from primia_flwr.errors import CheckpointError, ConfigError, DataError, MissingExtraError
from primia_flwr.models.card import ModelCard
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import save_model
from primia_flwr.tasks.classes.scores import Scores, score
from tests import class_predictions

CLASSES = ("dark", "light")


def make_images(root: Path, counts: dict[str, int]) -> Path:
    generator = np.random.default_rng(5)
    for name, n in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(n):
            low = 160 if name.endswith("light") else 20
            pixels = generator.integers(low, low + 80, (20, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:02d}.png")
    return root


@pytest.fixture
def trained_on(tmp_path: Path) -> Path:
    return make_images(tmp_path / "scans", {"dark": 12, "light": 12})


@pytest.fixture
def run_dir(tmp_path: Path, trained_on: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    model = ModelConfig(name="simpleconv")
    card = ModelCard(model, CLASSES, 1, 16, "squash", (0.5,), (0.25,), "0123456789abcdef", 3, False)
    save_model(path, build_model(model, outputs=2, channels=1, seed=1), card)
    cache = str(tmp_path / "cache")
    data = DataConfig(layout="folder", root=str(trained_on), image_size=64, cache_dir=cache)
    (path / "config.yaml").write_text(to_yaml(Experiment(seed=4, data=data)))
    return path


def evaluate(run_dir: Path, **changes: object) -> dict[str, object]:
    data = ScoredDataConfig(**changes.pop("data", {}))  # type: ignore[arg-type]
    settings = {"run": str(run_dir), "device": "cpu", "quiet": True, **changes}
    return run(EvaluateConfig(data=data, **settings))  # type: ignore[arg-type]


def test_figures_of_other_images_are_not_replaced(run_dir: Path, tmp_path: Path) -> None:
    here, there = (
        make_images(tmp_path / place / "test", {"dark": 3, "light": count})
        for place, count in (("a", 3), ("b", 5))
    )
    assert evaluate(run_dir, data={"root": str(here)})["n"] == 6
    assert evaluate(run_dir, data={"root": str(here)})["n"] == 6
    written = (run_dir / "evaluation" / "test" / "metrics.json").read_bytes()
    with pytest.raises(ConfigError, match=rf"has the figures of data.root={here}; .*name=<name>"):
        evaluate(run_dir, data={"root": str(there)})
    assert (run_dir / "evaluation" / "test" / "metrics.json").read_bytes() == written
    assert evaluate(run_dir, data={"root": str(there)}, name="test-b")["n"] == 8


def test_maps_without_their_package_are_refused_before_anything_is_written(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(MissingExtraError, match="saliency=3 needs captum"):
        evaluate(run_dir, saliency=3)
    assert not (run_dir / "evaluation").exists()


@pytest.mark.parametrize("asked", [{"coverage": 0.8}, {"by_class": True}])
def test_sets_of_a_model_that_has_none_are_refused_before_anything_is_written(
    run_dir: Path, asked: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=r"the model's card has no set_scores; expected a model"):
        evaluate(run_dir, **asked)
    assert not (run_dir / "evaluation").exists()


def test_a_folder_is_scored_and_the_files_agree_with_each_other(
    run_dir: Path, tmp_path: Path
) -> None:
    other = make_images(tmp_path / "hospital-b", {"dark": 5, "light": 3})
    result = evaluate(run_dir, data={"root": str(other)})
    target = run_dir / "evaluation" / "hospital-b"
    assert result["output"] == str(target)
    metrics = json.loads((target / "metrics.json").read_text())
    predictions = class_predictions.read(target / "predictions.csv")
    again = score(predictions.labels, predictions.outputs, CLASSES).to_dict()
    assert {key: metrics[key] for key in again} == again
    assert result["n"] == metrics["n"] == 8
    assert result["mcc"] == metrics["mcc"]
    assert metrics["per_class"]["dark"]["n"] == 5
    assert set(predictions.files) == {
        *(f"dark/{i:02d}.png" for i in range(5)),
        *(f"light/{i:02d}.png" for i in range(3)),
    }
    assert metrics["warning"] == ""
    assert metrics["round"] == 3


def test_without_data_the_runs_own_test_set_is_scored(run_dir: Path, trained_on: Path) -> None:
    result = evaluate(run_dir)
    assert result["n"] in (4, 6), "a fifth of 12 patients in each of two classes, rounded"
    assert Path(str(result["output"])).name == "own-test"
    again = evaluate(run_dir, data={"split": "test"}, name="again")
    first = class_predictions.read(run_dir / "evaluation" / "own-test" / "predictions.csv")
    second = class_predictions.read(run_dir / "evaluation" / "again" / "predictions.csv")
    assert first.files == second.files
    assert again["mcc"] == result["mcc"]


def test_scoring_the_training_folder_is_possible_but_warned_of(
    run_dir: Path, trained_on: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate(run_dir, data={"root": str(trained_on)})
    assert result["n"] == 24
    metrics = json.loads((Path(str(result["output"])) / "metrics.json").read_text())
    assert "may include some that the model was trained on" in metrics["warning"]
    out, err = capsys.readouterr()
    assert out == "", "quiet keeps tables off standard output"
    assert "warning" in err


def test_a_split_of_the_folder_is_taken_alone_and_test_by_default(
    run_dir: Path, tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    make_images(root / "train", {"dark": 4, "light": 4})
    make_images(root / "test", {"dark": 2, "light": 1})
    assert evaluate(run_dir, data={"root": str(root)})["n"] == 3
    assert evaluate(run_dir, data={"root": str(root), "split": "train"})["n"] == 8
    assert evaluate(run_dir, data={"root": str(root), "split": "all"})["n"] == 11
    with pytest.raises(DataError, match=r"data\.split=val"):
        evaluate(run_dir, data={"root": str(root), "split": "val"})


def test_a_manifest_replaces_the_runs_folder_layout(run_dir: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "more", {"dark": 2, "light": 2})
    manifest = tmp_path / "more" / "list.csv"
    rows = ["path,label", "dark/00.png,dark", "light/00.png,light", "light/01.png,light"]
    manifest.write_text("\n".join(rows) + "\n")
    data = {"manifest": str(manifest), "root": str(tmp_path / "more")}
    assert evaluate(run_dir, data=data)["n"] == 3


def test_a_folder_without_images_of_one_class_gives_null_with_the_reason(
    run_dir: Path, tmp_path: Path
) -> None:
    root = make_images(tmp_path / "half", {"light": 3})
    result = evaluate(run_dir, data={"root": str(root)})
    metrics = json.loads((Path(str(result["output"])) / "metrics.json").read_text())
    assert metrics["roc_auc"] is None
    assert metrics["notes"][0] == "dark: no image of this class"
    assert Scores.from_dict({k: metrics[k] for k in Scores.__dataclass_fields__}).n == 3


def test_other_classes_are_refused_in_one_sentence(run_dir: Path, tmp_path: Path) -> None:
    root = make_images(tmp_path / "other", {"dark": 2, "medium": 2, "light": 2})
    with pytest.raises(
        DataError, match=r"other: classes dark, light, medium; expected .*model, dark, light; "
    ):
        evaluate(run_dir, data={"root": str(root)})
    assert not (run_dir / "evaluation").exists()


def test_the_same_class_names_in_another_case_are_the_models_and_that_is_said(
    run_dir: Path, tmp_path: Path
) -> None:
    root = make_images(tmp_path / "upper", {"Dark": 2, "Light": 1})
    result = evaluate(run_dir, data={"root": str(root)})
    metrics = json.loads((Path(str(result["output"])) / "metrics.json").read_text())
    assert result["n"] == 3
    assert "'Dark' as 'dark', 'Light' as 'light'" in metrics["warning"]


def test_a_table_may_call_its_columns_otherwise(run_dir: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "more", {"dark": 2, "light": 2})
    table = tmp_path / "more" / "list.csv"
    table.write_text("Image Index;Finding\ndark/00.png;dark\nlight/00.png;light\n")
    columns = {"path": "Image Index", "label": "Finding"}
    data = {"manifest": str(table), "root": str(tmp_path / "more"), "columns": columns}
    assert evaluate(run_dir, data=data)["n"] == 2


def test_output_and_name_say_where_the_files_go(run_dir: Path, tmp_path: Path) -> None:
    root = make_images(tmp_path / "c", {"dark": 2, "light": 2})
    evaluate(run_dir, data={"root": str(root)}, output=str(tmp_path / "out"), name="paris")
    written = {p.name for p in (tmp_path / "out" / "evaluation" / "paris").iterdir()}
    assert written == {"metrics.json", "predictions.csv"}
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be made .*output=<folder>"):
        evaluate(run_dir, data={"root": str(root)}, output=str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"run": ""}, ConfigError, r"run is empty; expected the output folder"),
        ({"run": "/nowhere"}, ConfigError, r"run=/nowhere; expected an existing"),
        ({"name": "../x"}, ConfigError, r"name='\.\./x'"),
        ({"batch_size": 0}, ConfigError, r"batch_size=0"),
        ({"data": {"split": "tests"}}, ConfigError, r"data\.split=tests.*did you mean test"),
        ({"data": {"layout": "x"}}, ConfigError, r"data\.layout=x"),
        ({"data": {"root": "/nowhere"}}, DataError, r"data\.root=/nowhere"),
    ],
)
def test_mistakes_get_one_sentence(
    run_dir: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(run_dir, **changes)


def test_a_model_without_config_needs_data_and_then_works(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"config\.yaml is missing.*data\.root"):
        evaluate(run_dir)
    root = make_images(tmp_path / "d", {"dark": 2, "light": 2})
    assert evaluate(run_dir, data={"root": str(root), "cache_dir": str(tmp_path / "c2")})["n"] == 4


def test_a_damaged_model_is_named(run_dir: Path) -> None:
    (run_dir / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        evaluate(run_dir)


def test_conf_spells_the_dataclass_defaults() -> None:
    assert parse(EvaluateConfig, compose("commands/analysis/evaluate")) == EvaluateConfig()


def test_the_verb_prints_tables_and_ends_with_one_json_line(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_images(tmp_path / "e", {"dark": 2, "light": 2})
    assert call(COMMAND, [f"run={run_dir}", f"data.root={root}", "device=cpu"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert json.loads(lines[-1])["n"] == 4
    assert any("Balanced accuracy" in line for line in lines)
    shutil.rmtree(run_dir)
    assert call(COMMAND, [f"run={run_dir}"]) == 2
    assert "expected an existing output folder" in " ".join(capsys.readouterr().err.split())
