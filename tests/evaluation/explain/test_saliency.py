"""Grad-CAM on networks whose maps can be worked out by hand, and which cases are shown."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.evaluation.explain import saliency
from primia_flwr.evaluation.explain.cases import (
    ExplainedCase,
    Explanation,
    picture_of,
    read_cases,
    write_cases,
)
from primia_flwr.evaluation.explain.saliency import choose_cases, explained_layer, grad_cam
from primia_flwr.models import build_model
from primia_flwr.models.layers.common import freeze
from primia_flwr.reporting.plots import saliency as plots_saliency
from primia_flwr.reporting.plots.saliency import saliency_plots


class TwoMaps(nn.Module):
    """Two 2 x 2 maps from the pixels: the pixel itself, and its negative part; weights by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.maps.weight.data = torch.tensor([[[[1.0]]], [[[-1.0]]]])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[3.0, 0.0], [1.0, 2.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.maps(x)).flatten(1))  # type: ignore[no-any-return]


def test_the_map_is_that_of_the_paper_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """alpha = mean gradient over the 4 cells = head weight / 4 (eq. 1); ReLU(sum) (eq. 2).

    Class 0: 3/4 x. Class 1: 1/4 x - 2/4 x = -x/4. Pixels 4, 2, -4, 0.
    """
    monkeypatch.setattr(
        saliency,
        "MODELS",
        {"two": SimpleNamespace(explained="maps", map_side=lambda pixels: pixels, finer=())},
    )
    images = torch.tensor([[[[4.0, 2.0], [-4.0, 0.0]]]]).repeat(2, 1, 1, 1)
    found = grad_cam(TwoMaps(), "two", images, [0, 1])
    np.testing.assert_allclose(found[0], [[1, 0.5], [0, 0]])
    np.testing.assert_allclose(found[1], [[0, 0], [1, 0]])


def test_a_map_without_evidence_is_zero_not_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        saliency,
        "MODELS",
        {"two": SimpleNamespace(explained="maps", map_side=lambda pixels: pixels, finer=())},
    )
    assert grad_cam(TwoMaps(), "two", -torch.ones(1, 1, 2, 2), [0]).tolist() == [[[0, 0], [0, 0]]]


def test_a_sequence_has_a_map_of_each_frame_side_by_side() -> None:
    """Frames in another order have their maps in that order: the mean treats all alike."""
    cfg = ModelConfig(name="sequence")
    model = build_model(cfg, outputs=2, channels=3, seed=0).eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = grad_cam(model, "sequence", images, [0, 1])
    assert found.shape == (2, 16, 48)
    assert found.max(axis=(1, 2)).tolist() == [1, 1]
    turned = grad_cam(model, "sequence", images[:, [2, 0, 1]], [0, 1])
    first, second, third = np.split(found, 3, axis=2)
    expected = np.concatenate([third, first, second], axis=2)
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_a_picture_of_a_sequence_shows_its_frames_side_by_side() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert picture_of(pixels, frames=3).tolist() == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]
    assert picture_of(pixels).shape == (2, 2, 3)  # three colours


def test_the_whole_of_a_wide_map_is_hatched() -> None:
    strokes = plots_saliency._hatching(np.ones((4, 12)), 0.5)
    assert max(end[0] for stroke in strokes for end in stroke) == 11


def layer_output(model: nn.Module, layer: nn.Module, images: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _m, _i, out: found.append(out))
    training = model.training
    model.eval()(images)
    model.train(training)
    handle.remove()
    return found[0]


@pytest.mark.parametrize("trainable", ["all", "head"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("name", ["resnet18", "vgg16", "simpleconv"])
def test_the_target_is_the_last_activation_and_the_model_stays_as_it_was(
    name: str, norm: str, trainable: str
) -> None:
    model = build_model(ModelConfig(name=name, norm=norm), outputs=3, channels=1, seed=0)
    model.train()
    freeze(model, trainable, head=MODELS[name].head)
    sizes: list[torch.Size] = []
    layer_name, side = explained_layer(name, 72)
    layer = model.get_submodule(layer_name)
    handle = layer.register_forward_hook(lambda _m, _i, out: sizes.append(out.shape))
    with torch.no_grad():
        last = model.get_submodule(MODELS[name].explained)
        assert float(layer_output(model, last, torch.rand(1, 1, 72, 72)).min()) >= 0
    sizes.clear()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = grad_cam(model, name, torch.rand(3, 1, 72, 72), [0, 1, 2])
    handle.remove()
    assert sizes[0][2:] == (side, side)
    assert not isinstance(layer, nn.MaxPool2d | nn.Conv2d)
    assert found.shape == (3, 72, 72)
    assert found.min() >= 0
    peaks = found.max(axis=(1, 2))
    assert peaks.max() == 1
    assert all(peak in (0, 1) for peak in peaks)  # 0: nothing spoke for the class
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_images_far_apart_in_one_call_do_not_mix() -> None:
    """More images than are computed at once give each the map that it has alone."""
    model = build_model(ModelConfig(name="simpleconv"), outputs=3, channels=1, seed=1)
    images = torch.rand(10, 1, 32, 32)
    together = grad_cam(model, "simpleconv", images, [0] * 10)
    alone = np.concatenate([grad_cam(model, "simpleconv", images[i : i + 1], [0]) for i in (0, 9)])
    np.testing.assert_allclose(together[[0, 9]], alone, atol=1e-4)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.name='?alexnet'?; expected"):
        grad_cam(TwoMaps(), "alexnet", torch.zeros(1, 1, 2, 2), [0])
    with pytest.raises(DataError, match="2 classes for 1 images"):
        grad_cam(TwoMaps(), "resnet18", torch.zeros(1, 1, 2, 2), [0, 1])


def test_the_most_confident_right_and_wrong_of_every_class_ties_by_order() -> None:
    labels = np.array([0, 0, 0, 1, 1, 0])
    probabilities = np.array(
        [[0.9, 0.1], [0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.3, 0.7]]
    )
    cases = choose_cases(labels, probabilities, per_class=1)
    assert [(c.index, c.label, c.predicted, c.right) for c in cases] == [
        (0, 0, 0, True),
        (5, 0, 1, False),
        (4, 1, 1, True),
        (3, 1, 0, False),
    ]
    assert [c.confidence for c in cases] == [0.9, 0.7, 0.8, 0.7]
    assert [c.index for c in choose_cases(labels, probabilities, per_class=5)] == [0, 2, 1, 5, 4, 3]
    assert choose_cases(labels, probabilities, per_class=0) == ()


def explanation(*, channels: int = 1) -> Explanation:
    pixels = np.arange(channels * 16, dtype=np.uint8).reshape(channels, 4, 4)
    heat = np.zeros((4, 4), np.uint8)
    heat[1, 2] = 255
    right = ExplainedCase(3, "viral", "viral", 0.875, picture_of(pixels), heat)
    wrong = ExplainedCase(7, "viral", "normal", 0.5, picture_of(pixels), np.zeros_like(heat))
    other = ExplainedCase(8, "normal", "normal", 0.75, picture_of(pixels), heat)
    return Explanation("layer4", 8, "the test set", (right, wrong, other))


@pytest.mark.parametrize("channels", [1, 3])
def test_cases_are_read_back_as_they_were_written(tmp_path: Path, channels: int) -> None:
    written = explanation(channels=channels)
    write_cases(tmp_path / "saliency", written)
    found = read_cases(tmp_path / "saliency")
    assert found is not None
    assert (found.layer, found.map_side, found.origin) == ("layer4", 8, "the test set")
    for one, other in zip(found.cases, written.cases, strict=True):
        assert (one.row, one.label, one.predicted, one.confidence) == (
            *(other.row, other.label, other.predicted, other.confidence),
        )
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.heat, other.heat)


def test_fewer_cases_leave_no_old_pictures(tmp_path: Path) -> None:
    whole = explanation()
    write_cases(tmp_path, whole)
    write_cases(tmp_path, Explanation("layer4", 2, "again", whole.cases[:1]))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("case-01-map.png", "case-01.png", "cases.json"),
    ]
    assert read_cases(tmp_path / "none") is None


@pytest.mark.parametrize("harm", ["list", "picture", "size"])
def test_a_damaged_folder_is_named(tmp_path: Path, harm: str) -> None:
    write_cases(tmp_path, explanation())
    if harm == "list":
        (tmp_path / "cases.json").write_text(json.dumps({"cases": [{"row": 1}]}))
    elif harm == "picture":
        (tmp_path / "case-02.png").unlink()
    else:
        (tmp_path / "case-02-map.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_cases(tmp_path)


def test_a_picture_a_class_says_what_was_predicted(tmp_path: Path) -> None:
    viral, normal = saliency_plots(explanation())
    assert (viral.name, normal.name) == ("saliency-1", "saliency-2")
    assert "class viral" in viral.alt
    assert "predicted normal with 50 %" in viral.alt
    assert "wrong: normal, 50 %" in viral.svg
    assert "nothing spoke for it" in viral.svg
    assert "hatched inside" in viral.alt
    assert "inside hatched" in viral.svg
    assert viral.svg == saliency_plots(explanation())[0].svg
    assert viral.svg.count("data:image/png;base64,") == 4


@pytest.mark.parametrize(
    ("name", "pixels", "layer", "side"),
    [
        ("resnet18", 224, "layer4", 7),
        ("resnet18", 223, "layer4", 7),
        ("resnet50", 192, "layer3", 12),
        ("resnet18", 112, "layer3", 7),
        ("resnet18", 64, "layer2", 8),
        ("resnet34", 32, "layer1", 8),
        ("resnet18", 16, "layer1", 4),
        ("vgg16", 224, "features.42", 14),
        ("vgg16", 64, "features.32", 8),
        ("vgg16", 32, "features.22", 8),
        ("simpleconv", 64, "features.14", 8),
        ("simpleconv", 32, "features.10", 8),
        ("simpleconv", 16, "features.6", 8),
        ("scattering", 32, "front.2", 8),
    ],
)
def test_the_last_layer_with_enough_cells(name: str, pixels: int, layer: str, side: int) -> None:
    assert explained_layer(name, pixels) == (layer, side)
    model = build_model(ModelConfig(name=name), outputs=2, channels=1, seed=0)
    with torch.no_grad():
        out = layer_output(model, model.get_submodule(layer), torch.rand(1, 1, pixels, pixels))
    assert out.shape[2:] == (side, side)


def test_what_is_rounding_only_speaks_for_nothing() -> None:
    map_of = torch.tensor([[[[1e-9, -1.0], [-2.0, 0.0]]], [[[1e-9, -1e-9], [0.0, 0.0]]]])
    found = saliency._spoke_for(map_of)
    assert found[0].max() == 0
    assert found[1].max() == pytest.approx(1e-9), "small numbers are not rounding"


def outlined(heat: np.ndarray, side: int = 8) -> tuple[str, str]:
    pixels = np.full(heat.shape, 100, np.uint8)
    case = ExplainedCase(1, "viral", "viral", 0.9, pixels, heat.astype(np.uint8))
    (plot,) = saliency_plots(Explanation("layer4", side, "the test set", (case,)))
    return plot.svg, plot.alt


def blob(low: int = 0) -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    return np.clip(255 * np.exp(-((x - 20) ** 2 + (y - 40) ** 2) / 200), low, 255)


def test_an_outline_says_which_side_is_inside() -> None:
    svg, _ = outlined(blob())
    assert "LineCollection" in svg
    assert "inside hatched" in svg


@pytest.mark.parametrize(
    ("heat", "side", "why"),
    [
        (blob(), 6, "map too coarse: 6 x 6 cells"),
        (blob(), 1, "map too coarse: 1 x 1 cells"),
        (np.full((64, 64), 255), 8, "map is flat: no place stands out"),
        (blob(low=128), 8, "map is flat: no place stands out"),
        (np.zeros((64, 64)), 8, "nothing spoke for it"),
    ],
)
def test_no_outline_where_it_means_nothing(heat: np.ndarray, side: int, why: str) -> None:
    svg, alt = outlined(heat, side)
    assert why in svg
    assert why in alt
    assert "LineCollection" not in svg
    assert "ContourSet" not in svg
    assert "hatched</" not in svg


def test_strokes_lie_inside() -> None:
    heat = blob() / 255
    strokes = plots_saliency._hatching(heat, 0.5)
    assert len(strokes) >= 5
    for (x0, y0), (x1, y1) in strokes:
        middle = round((y0 + y1) / 2), round((x0 + x1) / 2)
        assert heat[int(y0), int(x0)] >= 0.5
        assert heat[int(y1), int(x1)] >= 0.5
        assert heat[middle] >= 0.5
    everywhere = plots_saliency._hatching(np.ones((5, 5)), 0.5)
    assert ((0.0, 0.0), (4.0, 4.0)) in everywhere
