from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.data.size_bins import side_bins
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import DataError, ProtocolError
from tests.data.everything import load_all


def labelled(pixels: np.ndarray, labels: list[int] | None = None) -> LabelledImages:
    count = len(pixels)
    names = tuple(str(i) for i in range(count))
    wanted = labels if labels is not None else [0] * count
    return LabelledImages(
        torch.from_numpy(pixels), torch.tensor(wanted, dtype=torch.int64), names, names, ("a", "b")
    )


IMAGES = st.integers(1, 3).flatmap(
    lambda channels: st.lists(
        arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(channels), st.just(4), st.just(4))),
        min_size=1,
        max_size=4,
    )
)


@given(IMAGES)
def test_merged_sums_equal_numpy_over_all_images(sites: list[np.ndarray]) -> None:
    sums = PixelSums.merge(PixelSums.of(labelled(site)) for site in sites)
    pooled = np.concatenate(sites).astype(np.float64) / 255
    assert np.allclose(sums.mean(), pooled.mean(axis=(0, 2, 3)), atol=1e-9, rtol=0)
    assert np.allclose(sums.std(), pooled.std(axis=(0, 2, 3)), atol=1e-6, rtol=0)


def test_variance_between_sites_is_included() -> None:
    dark, bright = (np.full((3, 1, 2, 2), value, np.uint8) for value in (0, 255))
    sums = PixelSums.merge([PixelSums.of(labelled(dark)), PixelSums.of(labelled(bright))])
    assert sums.mean() == (0.5,)
    assert sums.std() == (0.5,)  # each site alone has a standard deviation of 0


def test_by_hand() -> None:
    sums = PixelSums.of(labelled(np.array([[[[0, 255]]], [[[51, 102]]]], np.uint8), [0, 1]))
    assert sums.count == 4
    assert sums.total == pytest.approx((1.6,))
    assert sums.total_squares == pytest.approx((1.2,))
    assert sums.label_counts == (1, 1)


def test_many_images_are_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 1, 40, 40), dtype=np.uint8)
    sums = PixelSums.of(labelled(pixels))
    assert abs(sums.mean()[0] - (pixels / 255).mean()) < 1e-12
    assert abs(sums.std()[0] - (pixels / 255).std()) < 1e-9


@given(arrays(np.uint8, array_shapes(min_dims=4, max_dims=4, max_side=4)))
def test_round_trip_over_the_wire(pixels: np.ndarray) -> None:
    sums = PixelSums.of(labelled(pixels))
    assert PixelSums.from_dict(sums.to_dict()) == sums


def test_histogram_of_the_stored_sizes(tmp_path: Path) -> None:
    for label, shapes in {"a": [(127, 500), (128, 128), (255, 300)], "b": [(4096, 5000)]}.items():
        (tmp_path / label).mkdir()
        for height, width in shapes:
            pixels = np.full((height, width), 7, np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{height}x{width}.jpg")
    Image.fromarray(pixels).save(tmp_path / "b" / "large.png")
    cfg = DataConfig(layout="folder", root=str(tmp_path), image_size=16, cache_dir=str(tmp_path))
    data = load_all(cfg, seed=1)
    sums = PixelSums.of(data)  # the images themselves are 16 x 16 by now
    assert sums.side_counts == (1, 2, 0, 0, 0, 0, 2)
    assert PixelSums.of(data.select([0])).side_counts == (1, 0, 0, 0, 0, 0, 0)
    assert side_bins()[:2] + side_bins()[-1:] == ["below 128", "128-255", "4096 and more"]


def test_slices_of_a_volume_are_alike() -> None:
    slices = np.zeros((1, 2, 1, 2), np.uint8)
    slices[0, 1] = [[0, 255]]  # the first is black: alone it has no deviation
    sums = PixelSums.of(labelled(slices)).alike()
    assert sums.mean() == (0.25, 0.25)
    # Of 0, 0, 0, 1: 1/4 - 1/16.
    assert sums.std() == (math.sqrt(3 / 16),) * 2
    assert sums.count == 2


GOOD = {
    "count": [4.0],
    "total": [1.6],
    "total_squares": [1.2],
    "label_counts": [1.0, 1.0],
    "side_counts": [0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
}


@pytest.mark.parametrize(
    "change",
    [
        {"total": [float("nan")]},
        {"total_squares": [float("inf")]},
        {"count": [-4.0]},
        {"count": [4.0, 4.0]},
        {"count": []},
        {"total": [5.0]},
        {"total_squares": [5.0]},
        {"total": [1.0, 1.0]},
        {"total": ["much"]},
        {"total": None},
        {"label_counts": []},
        {"side_counts": [2.0]},
        {"volume_counts": [float("nan")]},
        {"volume_counts": ["many"]},
        {"side_counts": [2.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0]},
    ],
)
def test_impossible_sums_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        PixelSums.from_dict({**GOOD, **change})
    with pytest.raises(ProtocolError, match="lack"):
        PixelSums.from_dict({"count": [1.0]})


def test_sites_that_do_not_fit_together() -> None:
    grey, colour = (np.zeros((1, channels, 2, 2), np.uint8) for channels in (1, 3))
    with pytest.raises(ProtocolError, match="same channels"):
        PixelSums.merge([PixelSums.of(labelled(grey)), PixelSums.of(labelled(colour))])
    with pytest.raises(ProtocolError):
        PixelSums.merge([])


def test_no_images() -> None:
    with pytest.raises(DataError, match="at least one image"):
        PixelSums.of(labelled(np.zeros((0, 1, 2, 2), np.uint8))).mean()
