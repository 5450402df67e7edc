"""The names of `primia_flwr` for notebooks, and the examples of docs/python-api.md."""

import ast
import inspect
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import primia_flwr
from tests.e2e.in_memory import without_processes
from tests.e2e.runner import TINY

PAGE = Path(__file__).parents[1] / "docs" / "python-api.md"
FUNCTIONS = ("train", "open_run", "evaluate", "predict", "compare")


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


def execute(block: str, names: dict[str, Any]) -> None:
    exec(compile(block, str(PAGE), "exec"), names)


@pytest.mark.parametrize("name", primia_flwr.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    found = getattr(primia_flwr, name)
    assert found is not None
    assert name == "__version__" or f"`{name}`" in PAGE.read_text()
    assert name in dir(primia_flwr)


def test_the_stub_types_each_name_where_it_comes_from() -> None:
    tree = ast.parse(Path(primia_flwr.__file__).with_suffix(".pyi").read_text())
    imported = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    wanted = {name: f"primia_flwr.{room}" for name, room in primia_flwr._ROOM_OF.items()}
    assert imported == wanted
    assert Path(primia_flwr.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_teaches_each_parameter_and_shows_an_example(name: str) -> None:
    function = getattr(primia_flwr, name)
    text = inspect.getdoc(function) or ""
    assert ">>> " in text.partition("Examples\n--------")[2]
    assert "Raises\n------\nPrimiaError" in text
    parameters = inspect.signature(function).parameters
    if "Parameters\n----------" in text:
        assert [one for one in parameters if f"\n{one} : " not in text.replace("*", "")] == []
    for line in re.findall(r"^(?:>>>|\.\.\.) (.*)", text, re.M):
        if not line.startswith((" ", "for")):
            ast.parse(line)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        AttributeError, match=r"primia_flwr has no 'trian'; see primia_flwr\.__all__"
    ):
        _ = primia_flwr.trian  # type: ignore[attr-defined]


def test_the_import_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'flwr', 'hydra', 'omegaconf'}"
    program = f"import sys, primia_flwr; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PAGE.parents[1])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first two blocks leave: the demo's federation, with small images."""
    folder = tmp_path_factory.mktemp("page")
    small = {"federation.rounds": 1, "report.saliency": 0}
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, without_processes():
        patch.chdir(folder)
        patch.setattr(primia_flwr, "train", partial(primia_flwr.train, *TINY, small))
        patch.setattr(primia_flwr, "compare", partial(_quick, primia_flwr.compare))
        execute(blocks()[0], names)
        (folder / "today").mkdir()
        Image.new("L", (40, 50), 90).save(folder / "today" / "thorax.png")
        execute(blocks()[1], names)
    return names


def _quick(compare: Any, runs: Any) -> Any:
    return compare(runs, "resamples=100")


def test_the_page_trains_scores_compares_and_predicts(ran: dict[str, Any]) -> None:
    run, folder = ran["run"], ran["run"].folder
    assert folder.name == "my run"
    assert run.report.is_file()
    assert (run.synthetic, run.best_round, len(run.history)) == (True, 1, 1)
    assert set(run.baselines) == {"Centralised"}
    assert run.history[0]["sites"] == 3
    assert ran["scored"].n == 18
    for name in ("mcc", "accuracy", "roc_auc"):
        assert ran["scored"].figures[name] == pytest.approx(run.figures[name])
    assert list(ran["compared"].figures) == ["my run", "my run: centralised"]
    assert ran["compared"].report.is_file()
    (image,) = ran["predicted"].images
    assert sum(image[f"p_{name}"] for name in ran["predicted"].classes) == pytest.approx(1)


def test_a_plan_is_no_run_and_a_run_is_not_trained_over(
    ran: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = ran["run"].folder
    with pytest.raises(primia_flwr.PrimiaError, match=r"^dry_run=true trains nothing"):
        primia_flwr.train("dry_run=true", *TINY, quiet=True)
    with pytest.raises(primia_flwr.PrimiaError, match=r"^output_dir=.*my run"):
        primia_flwr.train(*TINY, output_dir=folder, quiet=True)
    assert not (tmp_path / "outputs").exists()


def test_the_example_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    execute(blocks()[2], names)
    assert len(names["hospital"].train) > 20
    assert 0.4 < names["scores"].figures()["accuracy"] <= 1  # a third by guessing
    assert names["training"].best_round in range(1, 11)
    for one, other in zip(names["model"].parameters(), names["again"].parameters(), strict=True):
        assert torch.equal(one.cpu(), other.cpu())
    assert 2.9 < names["guarantee"].epsilon <= 3
