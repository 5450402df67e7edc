"""`primia predict` on small folders: what `primia evaluate` says of the same files, unlabelled."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from primia_flwr.cli.analysis import evaluate
from primia_flwr.cli.analysis.scored_data import ScoredDataConfig
from primia_flwr.cli.main import run
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.data.files.frames import single_frames
from primia_flwr.errors import DataError
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.models.card import ModelCard
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import save_model
from primia_flwr.tasks.classes.judge import JUDGE
from tests.cli.analysis.test_evaluate import CLASSES, make_images

INFER_COLUMNS = ["file", "prediction", "p_dark", "p_light", "plausible", "audit", "calibrated",
                 "seconds", "bytes_sent", "bytes_received"]  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    model = ModelConfig(name="simpleconv")
    card = ModelCard(model, CLASSES, 1, 16, "pad", (0.5,), (0.25,), "0123456789abcdef", 3, False)
    save_model(path, build_model(model, outputs=2, channels=1, seed=1), card)
    data = DataConfig(layout="folder", root=str(tmp_path / "none"),
                      cache_dir=str(tmp_path / "cache"))  # fmt: skip
    (path / "config.yaml").write_text(to_yaml(Experiment(seed=4, data=data)))
    return path


@pytest.fixture
def predict(tmp_path: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(root: Path, *words: str, output: str = "told") -> tuple[int, list[dict[str, str]]]:
        code = run([
            "predict", f"run={run_dir}", f"data.root={root}", f"output={tmp_path / output}",
            "device=cpu", *words,
        ])  # fmt: skip
        told = capsys.readouterr()
        call.told = told.out + told.err  # type: ignore[attr-defined]
        table = tmp_path / output / "predictions.csv"
        rows = []
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
        return code, rows

    return call


def radiograph(path: Path, frames: np.ndarray, *, rle: bool = False) -> Path:
    """Write (N, H, W) uint8 frames as a DICOM file."""
    found = Dataset()
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3"
    found.Rows, found.Columns = frames.shape[1:]
    found.NumberOfFrames = len(frames)
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit, found.PixelRepresentation = 7, 0
    found.WindowCenter, found.WindowWidth = 128, 256
    found.PixelData = frames.tobytes()
    found["PixelData"].VR = "OB"
    if rle:
        found.compress(RLELossless)
    found.save_as(path, enforce_file_format=True)
    return path


def test_it_says_what_evaluate_says_without_the_labels(
    tmp_path: Path, run_dir: Path, predict: Any
) -> None:
    labelled = make_images(tmp_path / "scans", {"dark": 9, "light": 7})
    radiograph(labelled / "dark" / "x.dcm", np.full((1, 24, 20), 90, np.uint8))
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in labelled.rglob("*.*"):
        shutil.copy(path, flat / f"{path.parent.name}_{path.name}")
    evaluate.run(
        evaluate.EvaluateConfig(
            run=str(run_dir), data=ScoredDataConfig(root=str(labelled)), name="own", device="cpu"
        )
    )
    known = read_predictions(run_dir / "evaluation" / "own" / "predictions.csv", JUDGE)
    code, rows = predict(flat)
    assert code == 0
    assert len(rows) == len(known) == 17
    expected = {
        file.replace("/", "_"): (CLASSES[int(output.argmax())], output)
        for file, output in zip(known.files, known.outputs, strict=True)
    }
    assert {row["prediction"] for row in rows} <= set(CLASSES)
    for row in rows:
        name, output = expected[row["file"]]
        assert row["prediction"] == name
        assert [float(row["p_dark"]), float(row["p_light"])] == pytest.approx(output, abs=1e-9)


def test_the_table_is_that_of_infer(tmp_path: Path, predict: Any) -> None:
    code, rows = predict(make_images(tmp_path / "scans", {"today": 3}))
    assert code == 0
    assert list(rows[0]) == INFER_COLUMNS
    assert [row["file"] for row in rows] == [f"today/{n:02d}.png" for n in range(3)]
    assert {(row["plausible"], row["audit"]) for row in rows} == {("yes", "off")}
    values = json.loads((tmp_path / "told" / "predictions.json").read_text())
    assert (values["images"], values["skipped"], values["classes"]) == (3, {}, list(CLASSES))
    assert len(values["predictions"][0]["sha256"]) == 64
    for path in ((tmp_path / "told"), *(tmp_path / "told").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_one_file(tmp_path: Path, predict: Any) -> None:
    root = make_images(tmp_path / "scans", {"today": 2})
    assert [row["file"] for row in predict(root / "today" / "01.png")[1]] == ["01.png"]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_file_that_cannot_be_read_is_named_and_the_others_go_on(
    tmp_path: Path, predict: Any, batch_size: int
) -> None:
    root = make_images(tmp_path / "scans", {"today": 4})
    (root / "today" / "01.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    code, rows = predict(root, f"batch_size={batch_size}")
    assert code == 1
    assert [row["file"][-6:] for row in rows] == ["00.png", "02.png", "03.png"]
    assert "skipped today/01.png" in predict.told
    values = json.loads((tmp_path / "told" / "predictions.json").read_text())
    assert list(values["skipped"]) == ["today/01.png"]


def test_no_readable_image_is_an_error(tmp_path: Path, predict: Any) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.png").write_bytes(b"no image")
    code, rows = predict(tmp_path / "scans")
    assert (code, rows) == (2, [])
    assert "none of 1 files is a readable image" in predict.told
    assert predict(tmp_path / "nowhere")[0] == 2


def test_nothing_is_replaced(tmp_path: Path, predict: Any) -> None:
    root = make_images(tmp_path / "scans", {"today": 1})
    assert predict(root)[0] == 0
    assert predict(root)[0] == 2
    assert "holds the predictions of another call" in predict.told


FRAMES = np.stack([np.full((24, 20), level, np.uint8) for level in (0, 100, 255)])
FRAMES[:, 5:9, 4:8] = 77


@pytest.mark.parametrize("rle", [False, True])
def test_frames_each_by_itself(tmp_path: Path, predict: Any, rle: bool) -> None:
    (tmp_path / "scans").mkdir()
    radiograph(tmp_path / "scans" / "cine.dcm", FRAMES, rle=rle)
    for number, frame in enumerate(FRAMES, start=1):
        radiograph(tmp_path / "scans" / f"one{number}.dcm", frame[None])
    code, rows = predict(tmp_path / "scans", "frames=each")
    assert code == 0
    by_name = {row["file"]: float(row["p_dark"]) for row in rows}
    assert len(by_name) == 6
    for number in (1, 2, 3):
        single = by_name[f"one{number}.dcm"]
        assert by_name[f"cine.dcm#{number}"] == pytest.approx(single, abs=1e-7)


def test_frames_as_one_case(tmp_path: Path, predict: Any) -> None:
    (tmp_path / "scans").mkdir()
    path = radiograph(tmp_path / "scans" / "cine.dcm", FRAMES)
    _, each = predict(path, "frames=each", output="each")
    code, rows = predict(path, "frames=mean", output="mean")
    assert (code, [row["file"] for row in rows]) == (0, ["cine.dcm"])
    mean = np.mean([float(row["p_dark"]) for row in each])
    assert float(rows[0]["p_dark"]) == pytest.approx(mean, abs=1e-9)


def test_frames_are_refused_unless_asked_for(tmp_path: Path, predict: Any) -> None:
    root = make_images(tmp_path / "scans", {"today": 1})
    radiograph(root / "cine.dcm", FRAMES)
    code, rows = predict(root)
    assert (code, len(rows)) == (1, 1)
    assert "has 3 frames" in predict.told


def test_a_frame_that_cannot_be_shown_is_said_of_its_file(tmp_path: Path, predict: Any) -> None:
    root = make_images(tmp_path / "scans", {"today": 1})
    path = radiograph(root / "cine.dcm", FRAMES)
    found = pydicom.dcmread(path)
    found.RescaleSlope, found.RescaleIntercept = 0, 0
    found.save_as(path)
    assert predict(root, "frames=each")[0] == 1
    assert f"{path}, frame 1: RescaleSlope is 0" in " ".join(predict.told.split())


def test_fewer_frames_than_said_are_refused(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "a.dcm", FRAMES)
    found = pydicom.dcmread(path)
    found.NumberOfFrames = 7
    found.save_as(path)
    with pytest.raises(DataError, match="are not 7 frames"):
        list(single_frames(path, tmp_path))
    found.NumberOfFrames = 20_000
    found.save_as(path)
    with pytest.raises(DataError, match="at most 10000"):
        list(single_frames(path, tmp_path))


@pytest.mark.parametrize("word", ["frames=all", "batch_size=0", "device=cuda:99", "data.rot=x"])
def test_a_mistake_is_one_sentence(tmp_path: Path, predict: Any, word: str) -> None:
    assert predict(make_images(tmp_path / "scans", {"today": 1}), word)[0] == 2
    assert predict.told.strip().startswith("error:")
    assert len(predict.told.strip().splitlines()) == 1
