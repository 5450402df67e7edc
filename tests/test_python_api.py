"""The names of `primia_flwr` for notebooks, and the example of docs/python-api.md."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import primia_flwr

PAGE = Path(__file__).parents[1] / "docs" / "python-api.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.mark.parametrize("name", primia_flwr.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    found = getattr(primia_flwr, name)
    assert found is not None
    assert name == "__version__" or f"`{name}`" in PAGE.read_text()
    assert name in dir(primia_flwr)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        AttributeError, match=r"primia_flwr has no 'trian'; see primia_flwr\.__all__"
    ):
        _ = primia_flwr.trian


def test_the_import_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'flwr', 'hydra', 'omegaconf'}"
    program = f"import sys, primia_flwr; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PAGE.parents[1])


def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(blocks()[0], str(PAGE), "exec"), names)
    assert len(names["hospital"].train) > 20
    assert 0.6 < names["figures"]["accuracy"] <= 1
    assert names["training"].best_round in range(1, 11)
    for one, other in zip(names["model"].parameters(), names["again"].parameters(), strict=True):
        assert torch.equal(one.cpu(), other)
    figures = names["comparison"].to_dict()["figures"]
    assert figures.keys() == {"trained", "untrained"}
    assert 2.9 < names["guarantee"].epsilon <= 3


@pytest.mark.slow
def test_the_federation_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    smaller = blocks()[1].replace(
        '"experiment=demo"',
        '"experiment=demo", "model=simpleconv", "data.image_size=32", "federation.rounds=1",'
        ' "baselines=[]", "data.synthetic.patients=120"',
    )
    names: dict[str, Any] = {"pf": primia_flwr, "Path": Path}
    exec(compile(smaller, str(PAGE), "exec"), names)
    assert names["result"]["rounds"] == 1
    assert names["run"].run["status"] == "finished"
