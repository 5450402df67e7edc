"""`primia compare` on run folders with invented predictions and on a real, untrained model."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.cli.analysis.compare import COMMAND
from primia_flwr.cli.command import call
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.models.card import ModelCard
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import save_model
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.tasks.classes.scores import score
from tests import class_predictions

CLASSES = ("bacterial", "normal", "viral")
N = 90


def truth() -> IntArray:
    return np.repeat([0, 1, 2], N // 3).astype(np.int64)


def guesses(seed: int, sharpness: float = 1.5) -> FloatArray:
    logits = np.random.default_rng(seed).normal(size=(N, 3)) + sharpness * np.eye(3)[truth()]
    exponentials = np.exp(logits)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def make_run(path: Path, seed: int, *, root: str = "/data/a", shift: int = 0) -> Path:
    path.mkdir()
    files = [f"{k + shift:03d}.png" for k in range(N)]
    patients = [f"p{k // 2}" for k in range(N)]
    for name, own in (("", seed), ("-centralised", seed + 50), ("-local-munich", seed + 60)):
        target = path / f"predictions{name}.csv"
        class_predictions.write(target, files, patients, truth(), guesses(own), CLASSES)
    (path / "run.json").write_text(json.dumps({"synthetic": False}))
    data = DataConfig(layout="folder", root=root)
    (path / "config.yaml").write_text(to_yaml(Experiment(data=data)))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return make_run(tmp_path / "secure", 1), make_run(tmp_path / "plain", 2)


def compare(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict[str, object], str]:
    code = call(COMMAND, [*arguments, "quiet=true", "resamples=200"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, " ".join(err.split())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, _, err = compare(capsys, *arguments)
    assert code == 2
    assert err.startswith("error:")
    return err


def test_own_test_sets_baselines_and_experts(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experts = tmp_path / "experts.csv"
    lines = [f"{k:03d}.png,dr x,{CLASSES[truth()[k] if k % 3 else 1]}" for k in range(N)]
    experts.write_text("\n".join(["file,reader,label", *lines]))
    code, result, _ = compare(
        capsys, f"runs=[{runs[0]},{runs[1]}]", f"experts={experts}", "baselines=[centralised]"
    )
    assert code == 0
    target = runs[0] / "comparison"
    assert result["output"] == str(target)
    assert (result["images"], result["patients"]) == (N, 45)
    found = json.loads((target / "comparison.json").read_text())
    names = [reader["name"] for reader in found["readers"]]
    assert names == ["secure", "plain", "secure: centralised", "plain: centralised", "dr x"]
    expected = score(truth(), guesses(1), CLASSES)
    figures = found["figures"]["secure"]
    assert figures["accuracy"]["value"] == pytest.approx(expected.accuracy)
    assert figures["mcc"]["value"] == pytest.approx(expected.mcc)
    assert figures["roc_auc"]["value"] == pytest.approx(expected.roc_auc)
    assert figures["roc_auc"]["method"] == "DeLong, studentised bootstrap of patients"
    assert figures["accuracy"]["low"] < expected.accuracy < figures["accuracy"]["high"]
    # The reader calls every third image normal: 30 of 90, of which 10 are.
    assert found["figures"]["dr x"]["accuracy"]["value"] == pytest.approx(70 / 90)
    assert found["figures"]["dr x"]["roc_auc"] is None
    assert len(found["pairs"]) == 10
    assert all(pair["p_holm"] >= pair["mcnemar"]["p"] for pair in found["pairs"])
    assert any("No temperature is fitted for secure" in note for note in found["notes"])
    points = found["operating_points"]["secure"]
    assert {point["chosen_on"] for point in points} == {"compared"}
    assert points[0]["sensitivity"]["value"] >= 0.95
    with (target / "figures.csv").open(newline="") as stream:
        rows = {row["reader"]: row for row in csv.DictReader(stream)}
    assert float(rows["plain"]["mcc"]) == found["figures"]["plain"]["mcc"]["value"]
    assert rows["dr x"]["roc_auc"] == ""


def test_the_page_is_self_contained_and_a_second_comparison_replaces_the_first(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for baselines, count in (("[local]", 4), ("[]", 2)):
        asked = [f"runs=[{runs[0]},{runs[1]}]", f"baselines={baselines}"]
        assert compare(capsys, *asked)[0] == 0
        found = json.loads((runs[0] / "comparison" / "comparison.json").read_text())
        assert len(found["readers"]) == count
    page = (runs[0] / "comparison" / "compare.html").read_text()
    assert page.count("<svg") == 4
    assert not re.search(r"<script|<link|(?:src|href)=[\"']?https?:|@import", page)
    assert not list(runs[0].glob(".comparison*")), "nothing is left of the writing"
    assert "000.png" not in page
    assert "000.png" not in (runs[0] / "comparison" / "comparison.json").read_text()


def test_names_and_the_same_seed_give_the_same_limits(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for name in ("one", "two"):
        asked = [f"runs=[{runs[0]},{runs[1]}]", "names=[a,b]", f"output={tmp_path / name}"]
        asked.append("baselines=[]")
        assert compare(capsys, *asked)[0] == 0
        texts.append((tmp_path / name / "comparison.json").read_text())
    assert texts[0] == texts[1]
    assert '"name": "b"' in texts[0]


def test_groups_of_few_patients_are_counted_only(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = tmp_path / "groups.csv"
    lines = [f"{k:03d}.png,{'few' if k < 18 else 'many'}" for k in range(N)]
    groups.write_text("\n".join(["file,scanner", *lines]))
    assert compare(capsys, f"runs=[{runs[0]}]", "baselines=[]", f"groups={groups}")[0] == 0
    found = json.loads((runs[0] / "comparison" / "comparison.json").read_text())["subgroups"]
    few, many = found
    assert (few["images"], few["patients"], few["accuracy"]) == (18, 9, {})
    right = (guesses(1).argmax(axis=1) == truth())[18:]
    assert (many["patients"], many["column"]) == (36, "scanner")
    assert many["accuracy"]["secure"]["value"] == pytest.approx(right.mean())


def test_user_mistakes_are_one_sentence_and_nothing_is_written(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = runs[0]
    assert "runs is empty" in refused(capsys)
    assert "expected an existing output folder" in refused(capsys, f"runs=[{tmp_path / 'no'}]")
    assert "names has 1 entries; expected 2" in refused(
        capsys, f"runs=[{first},{runs[1]}]", "names=[a]"
    )
    assert "two runs are called" in refused(capsys, f"runs=[{first},{first}]")
    shifted = make_run(tmp_path / "shifted", 3, shift=5)
    assert "90 and 90 images, of which 85 are shared" in refused(
        capsys, f"runs=[{first},{shifted}]"
    )
    moved = make_run(tmp_path / "moved", 3, root="/data/b")
    assert "read from /data/a and /data/b" in refused(capsys, f"runs=[{first},{moved}]")
    (tmp_path / "bare").mkdir()
    assert "has no predictions.csv" in refused(capsys, f"runs=[{tmp_path / 'bare'}]")
    assert "sensitivity=2.0; expected" in refused(capsys, f"runs=[{first}]", "sensitivity=2")
    assert "baselines=none" in refused(capsys, f"runs=[{first}]", "baselines=[none]")
    assert "no earlier comparison" in refused(capsys, f"runs=[{first}]", f"output={runs[1]}")
    assert not (first / "comparison").exists()


def test_other_data_are_scored_and_baselines_without_them_are_said_to_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(5)
    for index in range(24):
        name = CLASSES[index % 3]
        (tmp_path / "scans" / name).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "scans" / name / f"{index:02d}.png")
    folders = []
    for seed, order in ((1, CLASSES), (2, CLASSES[::-1])):
        run = make_run(tmp_path / f"run-{seed}", seed)
        model = ModelConfig(name="simpleconv")
        card = ModelCard(
            model, order, 1, 16, "squash", (0.5,), (0.25,), "0123456789abcdef", 3, False
        )
        save_model(run, build_model(model, outputs=3, channels=1, seed=seed), card)
        folders.append(run)
    asked = [f"runs=[{folders[0]},{folders[1]}]", f"data.root={tmp_path / 'scans'}"]
    more = [f"data.cache_dir={tmp_path / 'cache'}", "device=cpu", f"output={tmp_path / 'out'}"]
    code, result, _ = compare(capsys, *asked, *more)
    assert (code, result["images"]) == (0, 24)
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [reader["name"] for reader in found["readers"]] == ["run-1", "run-2"]
    assert found["images_of_class"] == [8, 8, 8], "the second model's order of classes is another"
    notes = " ".join(found["notes"])
    assert "Not shown: the baselines of run-1 (centralised, munich)" in notes
    assert "validation images cannot be read" in notes


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(COMMAND, ["--help"]) == 0
    assert "primia compare runs=[outputs/a,outputs/b]" in capsys.readouterr().out


def test_temperature_and_thresholds_come_from_validation_images_never_from_compared_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(6)
    root = tmp_path / "scans"
    for index in range(90):
        (root / CLASSES[index % 3]).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(root / CLASSES[index % 3] / f"{index:02d}.png")
    run = make_run(tmp_path / "run", 1)
    data = DataConfig(layout="folder", root=str(root), cache_dir=str(tmp_path / "cache"))
    data.image_size = 16
    (run / "config.yaml").write_text(to_yaml(Experiment(data=data)))
    model = ModelConfig(name="simpleconv")
    card = ModelCard(model, CLASSES, 1, 16, "squash", (0.5,), (0.25,), "0123456789abcdef", 3, False)
    save_model(run, build_model(model, outputs=3, channels=1, seed=1), card)
    asked = [f"runs=[{run}]", "baselines=[]", "device=cpu"]
    for more, fitted in (([], True), ([f"data.root={root}"], False), (["validation=false"], False)):
        assert compare(capsys, *asked, *more)[0] == 0
        found = json.loads((run / "comparison" / "comparison.json").read_text())
        assert (found["calibration"]["run"]["temperature"] is not None) == fitted
        assert (found["calibration"]["run"]["fitted"] is not None) == fitted
        where = {point["chosen_on"] for point in found["operating_points"]["run"]}
        assert where == {"validation" if fitted else "compared"}
        said = any("may be among those compared" in note for note in found["notes"])
        assert said == bool(more and more[0].startswith("data.root"))


def test_what_was_found_is_said_first_and_by_patient(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"runs=[{runs[0]},{runs[1]}]", "baselines=[]", "resamples=200")
    assert call(COMMAND, words) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    found = json.loads((runs[0] / "comparison" / "comparison.json").read_text())
    (pair,) = found["pairs"]
    assert result["smallest_p_holm"] == pair["p_holm"] == pair["mcnemar"]["p"]
    assert pair["mcnemar"]["differing_patients"] <= 45
    answer = str(result["answer"])
    assert answer.startswith("No reader is shown to be right more often than another on 90 images")
    assert "of 45 patients (smallest p = " in answer
    assert " ".join(" ".join(shown).split()).startswith(answer[:60])
    page = (runs[0] / "comparison" / "compare.html").read_text()
    assert "Is one better?</span> No reader is shown" in page


def test_a_better_reader_is_named_with_the_difference(
    tmp_path: Path, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files, patients = [f"{k:03d}.png" for k in range(N)], [f"p{k // 2}" for k in range(N)]
    sharp = guesses(1, 9.0)
    class_predictions.write(runs[1] / "predictions.csv", files, patients, truth(), sharp, CLASSES)
    _, result, _ = compare(capsys, f"runs=[{runs[0]},{runs[1]}]", "baselines=[]")
    answer = str(result["answer"])
    assert answer.startswith("plain is right more often than secure: accuracy higher by 0.")
    assert "(p < 0.001 by patient)" in answer


def test_of_three_patients_nothing_can_be_shown(
    tmp_path: Path, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files, patients = [f"{k:03d}.png" for k in range(N)], [f"p{k % 3}" for k in range(N)]
    for run, sharpness in zip(runs, (1.0, 9.0), strict=True):
        own = guesses(1, sharpness)
        class_predictions.write(run / "predictions.csv", files, patients, truth(), own, CLASSES)
    _, result, _ = compare(capsys, f"runs=[{runs[0]},{runs[1]}]", "baselines=[]")
    assert result["smallest_p_holm"] == pytest.approx(0.125)
    assert "with 3 patients on whom they differ, no p below 0.125 is possible" in str(
        result["answer"]
    )


def test_a_patient_with_most_images_is_pointed_at(
    tmp_path: Path, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"{k:03d}.png" for k in range(N)]
    patients = [f"p{max(k % 60 - 40, 0)}" for k in range(N)]
    for run, seed in zip(runs, (1, 2), strict=True):
        own = guesses(seed)
        class_predictions.write(run / "predictions.csv", files, patients, truth(), own, CLASSES)
    assert compare(capsys, f"runs=[{runs[0]},{runs[1]}]", "baselines=[]")[0] == 0
    found = json.loads((runs[0] / "comparison" / "comparison.json").read_text())
    assert any("The p-values hold" in note for note in found["notes"])
    assert found["pairs"][0]["kappa"]["low"] is None
