"""The YAML of the pages is read as what it is for; the Python of two pages runs on real parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import compose_experiment
from primia_flwr.config.search.space import parse_space
from primia_flwr.models.registry import build_model
from primia_flwr.site.policy import SitePolicy, parse_policy
from tests.docs.blocks import Block, all_blocks

BLOCKS = [block for block in all_blocks() if not block.why]
YAML = [block for block in BLOCKS if block.language == "yaml"]
ELSEWHERE = {"docs/python-api.md"}  # tests/test_python_api.py runs those


def experiment(text: str, folder: Path) -> None:
    file = folder / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(text)
    found = compose_experiment([f"experiment={file}"])
    assert (found.name, found.federation.rounds, found.training.label_smoothing) == (
        "mine",
        20,
        0.1,
    )
    assert (found.data.layout, found.training.optimizer) == ("folder", "sgd")


def searched(text: str, folder: Path) -> None:
    found = yaml.safe_load(text)["search"]
    assert found["population"] == 9
    assert len(parse_space(found["space"]).dimensions) == 2


def swept(text: str, folder: Path) -> None:
    assert len(parse_space(yaml.safe_load(text)).dimensions) == 4


def site(text: str, folder: Path) -> SitePolicy:
    return parse_policy("site: munich\nsuperlink: fl.example.org:9391\n" + text, folder=folder)


def masks(text: str, folder: Path) -> None:
    found = site(text, folder)
    assert (found.data_task, found.data_mask_values) == ("segmentation", [0, 255])


def findings(text: str, folder: Path) -> None:
    found = site(text, folder)
    assert (found.data_task, len(found.data_classes)) == ("multilabel", 3)


def policy(text: str, folder: Path) -> None:
    found = site(text, folder)
    assert (found.min_sites, found.privacy_delta, found.allowed_experiments) == (
        *(2, 1e-5, ["pneumonia"]),
    )


READ_AS = {
    "docs/configuration.md": experiment,
    "docs/federated-search.md": searched,
    "docs/guide-hospital.md": policy,
    "docs/multilabel.md": findings,
    "docs/search.md": swept,
    "docs/segmentation.md": masks,
}


@pytest.mark.parametrize("block", YAML, ids=str)
def test_the_yaml_is_what_the_page_says(block: Block, tmp_path: Path) -> None:
    READ_AS[block.page](block.text, tmp_path)


def python_of(page: str) -> list[str]:
    return [b.text for b in BLOCKS if b.language == "python" and b.page == page]


def test_no_page_has_python_that_nothing_runs() -> None:
    pages = {block.page for block in BLOCKS if block.language == "python"}
    assert pages == ELSEWHERE | {"docs/differential-privacy.md"}
    assert len(python_of("docs/differential-privacy.md")) == 2


def test_private_steps_in_code() -> None:
    config = ModelConfig(name="simpleconv", norm="group")
    model = build_model(config, outputs=2, channels=1, seed=1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    generator = torch.Generator().manual_seed(1)
    data = SimpleNamespace(
        patients=[f"p{k}" for k in range(300)],
        images=torch.rand((300, 1, 16, 16), generator=generator),
        labels=torch.arange(300) % 2,
    )
    names = {"data": data, "model": model, "steps": 2, "prepare": lambda images: images}
    exec(python_of("docs/differential-privacy.md")[0], names)
    pairs = zip(before, model.parameters(), strict=True)
    assert all((old != new).any() for old, new in pairs), "noise moves each parameter"


def test_a_ledger_in_code(tmp_path: Path) -> None:
    digests = [f"{k:064x}" for k in range(40)]
    names: dict[str, Any] = {
        **{"folder": tmp_path / "privacy", "run": "0" * 16, "answers": 0, "head": ""},
        "data": SimpleNamespace(patients=[f"p{k // 2}" for k in range(40)], digests=digests),
    }
    exec(python_of("docs/differential-privacy.md")[1], names)
    assert names["plan"].events[0].noise_multiplier > 0.3
    assert np.isclose(names["plan"].events[0].sampling_rate, 0.1)
