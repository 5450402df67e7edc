"""`pf.evaluate`, `pf.predict` and `pf.compare` on small folders: objects, files, one sentence."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import primia_flwr as pf
from primia_flwr.cli.command import call
from tests.cli.analysis.test_compare import make_run
from tests.cli.analysis.test_evaluate import COMMAND, make_images, run_dir, trained_on

__all__ = ["run_dir", "trained_on"]  # fixtures


def test_a_model_is_scored_as_the_command_does(
    run_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = make_images(tmp_path / "hospital [b], neu", {"dark": 5, "light": 3})
    scored = pf.evaluate(run_dir, "device=cpu", data=other)
    assert capfd.readouterr() == ("", ""), "quiet"
    assert (scored.n, scored.synthetic, scored.warning) == (8, False, "")
    assert call(COMMAND, [f"run={run_dir}", f"data.root='{other}'", "device=cpu", "name=b"]) == 0
    typed = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert scored.figures == {name: typed[name] for name in scored.figures}
    assert set(scored.figures) == {"accuracy", "balanced_accuracy", "mcc", "roc_auc"}
    assert stat.S_IMODE((scored.folder / "predictions.csv").stat().st_mode) == 0o600


def test_what_is_odd_about_scores_is_in_the_object(
    run_dir: Path, trained_on: Path, tmp_path: Path
) -> None:
    known = pf.evaluate(run_dir, {"data.root": trained_on, "device": "cpu"})
    assert "may include some that the model was trained on" in known.warning
    half = make_images(tmp_path / "half", {"light": 3})
    scored = pf.evaluate(str(run_dir), "device=cpu", data=half)
    assert scored.figures["roc_auc"] is None
    assert scored.notes[0] == "dark: no image of this class"


def test_images_are_classified_and_a_broken_one_is_named(run_dir: Path, tmp_path: Path) -> None:
    folder = make_images(tmp_path / "today", {"x": 2}) / "x"
    (folder / "broken.png").write_bytes(b"no image")
    predicted = pf.predict(run_dir, folder, "device=cpu", output_dir=tmp_path / "out")
    assert predicted.folder == tmp_path / "out"
    assert predicted.classes == ("dark", "light")
    assert [image["file"] for image in predicted.images] == ["00.png", "01.png"]
    for image in predicted.images:
        assert image["p_dark"] + image["p_light"] == pytest.approx(1)
    assert list(predicted.skipped) == ["broken.png"]
    with pytest.raises(pf.PrimiaError, match="holds the predictions of another call"):
        pf.predict(run_dir, folder, "device=cpu", output_dir=tmp_path / "out")


def test_runs_are_compared_by_the_names_they_are_given(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "secure", 1), make_run(tmp_path / "plain", 2)
    words = ("baselines=[]", "resamples=100", "validation=false")
    compared = pf.compare({"with masks": one, "without": other}, *words)
    assert list(compared.figures) == ["with masks", "without"]
    assert compared.report == one / "comparison" / "compare.html"
    assert compared.values["images"] == 90
    assert "with masks" in compared.answer or "No reader" in compared.answer


def test_the_process_is_left_as_it_was(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org")
    before = os.umask(0o022)
    try:
        pf.evaluate(run_dir, "device=cpu")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert os.environ["NO_PROXY"] == "example.org"
    assert "no_proxy" not in os.environ


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: pf.evaluate("nowhere"), "run=nowhere; expected an existing output folder"),
        (lambda: pf.evaluate(3), "run=3; expected the path of a folder or a file"),  # type: ignore[arg-type]
        (lambda: pf.predict("nowhere", "x"), "run=nowhere; expected an existing output folder"),
        (lambda: pf.predict(".", None), "data=None; expected the path"),  # type: ignore[arg-type]
        (lambda: pf.compare([]), "runs is empty; expected output folders of runs"),
        (lambda: pf.compare(7), "runs=7; expected a list of runs, or a mapping"),  # type: ignore[arg-type]
        (lambda: pf.compare([1]), "runs=1; expected the path"),  # type: ignore[list-item]
        (lambda: pf.open_run("nowhere"), ".*nowhere: no run.json there; expected"),
        (lambda: pf.train("sweep=demo"), "sweep=demo without -m; expected primia train -m"),
        (lambda: pf.train("hello"), "'hello' is not an argument of 'primia train'"),
        (lambda: pf.train("model=resnet81"), "model=resnet81; expected one of"),
        (lambda: pf.train({"data.rot": "x"}), ".*data.rot"),
        (lambda: pf.train(output_dir=3), "output_dir=3; expected the path"),  # type: ignore[arg-type]
        (lambda: pf.train("--plugins=nowhere"), "--plugins nowhere; expected a folder"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    wrong: Callable[[], object], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pf.PrimiaError, match=f"^{sentence}") as caught:
        wrong()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
