"""The folder that is released: whole or not at all, read by both layouts, marked by a card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.dataset import load_images
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.data.reading.common import GENERATED, generated_note
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.synthesis import folder as written
from primia_flwr.synthesis.adversarial import build_generator
from primia_flwr.synthesis.config import GeneratorConfig
from primia_flwr.synthesis.folder import check_class_names, check_output, write_folder

CLASSES = ("no finding", "10")
COUNTS = (3, 2)


def write(target: Path) -> written.Written:
    torch.manual_seed(0)
    net = build_generator(GeneratorConfig(latent=4, width=8), classes=2, size=16)
    state = net.state_dict()
    return write_folder(target, state, net, CLASSES, COUNTS, seed=1, facts={"privacy": {"a": 1}})


def config(root: Path, **given: Any) -> DataConfig:
    own = {"root": str(root), "classes": list(CLASSES), "cache_dir": str(root.parent / "c")}
    return DataConfig(image_size=16, **{**own, **given})


@pytest.mark.parametrize("layout", ["folder", "manifest"])
def test_both_layouts_read_it_and_say_what_it_is(tmp_path: Path, layout: str) -> None:
    made = write(tmp_path / "out")
    assert made.images == 5
    table = str(tmp_path / "out" / "manifest.csv") if layout == "manifest" else ""
    cfg = config(tmp_path / "out", layout=layout, manifest=table)
    manifest = read_manifest(cfg, seed=1)
    assert [list(manifest.label_counts()), len(set(manifest.patients()))] == [[3, 2], 5]
    assert manifest.notes == (GENERATED,)
    assert not manifest.synthetic  # drawn by formula, of no patient: that is something else
    assert load_images(manifest, cfg).images.shape == (5, 1, 16, 16)


def test_the_card_has_the_generator_that_made_the_images(tmp_path: Path) -> None:
    made = write(tmp_path / "out")
    card = json.loads((tmp_path / "out" / "synthesis.json").read_text())
    content = (tmp_path / "out" / "generator.safetensors").read_bytes()
    assert card["generator_sha256"] == made.sha256 == hashlib.sha256(content).hexdigest()
    assert card["synthetic"] is True
    assert card["images"] == {"no finding": 3, "10": 2}
    assert card["privacy"] == {"a": 1}
    net = build_generator(GeneratorConfig(latent=4, width=8), classes=2, size=16)
    net.load_state_dict(load_file(tmp_path / "out" / "generator.safetensors"))


def test_of_other_folders_nothing_is_said(tmp_path: Path) -> None:
    assert generated_note(config(tmp_path)) == ""
    assert generated_note(DataConfig()) == ""


def _fails(*_: object) -> None:
    raise OSError(28, "No space left on device")


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("event", "error"), [(_fails, DataError), (_interrupted, KeyboardInterrupt)]
)
def test_nothing_half_written_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    event: Callable[..., None],
    error: type[BaseException],
) -> None:
    monkeypatch.setattr(written, "note_generated", event)
    with pytest.raises(error):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "..", "", "test", "Training", "a:b", "a ", "x" * 101])
def test_a_class_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected names that folders can have"):
        check_class_names(["fine", name])


def test_a_place_that_is_taken_or_among_patients_is_refused(tmp_path: Path) -> None:
    assert check_output(str(tmp_path / "new"), root=str(tmp_path / "scans")) == tmp_path / "new"
    for output, sentence in (
        ("", "output is empty"),
        (str(tmp_path), "exists"),
        (str(tmp_path / "scans" / "out"), "lies in data.root"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check_output(output, root=str(tmp_path / "scans"))
