"""Counts of volumes and the fingerprint that they have, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.data.fingerprint.facts import at_percentile, fingerprint
from primia_flwr.data.fingerprint.sums import LEVELS, Counts, counts_of, length

CT = (-1024.0, 3071.0)  # a level is one unit
NAMES = ("background", "liver", "tumour")
CASES, SPACINGS, SIDES, EXTENTS, INTENSITIES, CLASSES = (
    slice(0, 1), slice(1, 1051), slice(1051, 1822), slice(1822, 2974), slice(2974, 7072),
    slice(7072, None),
)  # fmt: skip


def volume(seed: int = 0, shape: tuple[int, int, int] = (4, 8, 16)) -> Counts:
    rng = np.random.default_rng(seed)
    values = rng.integers(-1200, 3300, shape).astype(np.float32)
    spacing = rng.uniform(0.4, 6, 3)
    classes = rng.integers(0, 3, shape).astype(np.uint8)
    return counts_of(values, classes, spacing.tolist(), outputs=3, levels=CT)


def test_one_volume_by_hand() -> None:
    values = np.zeros((10, 40, 50), np.float32)
    values[2:10, 8:40, 0:24] = 7  # 8 x 32 x 24 voxels that are not zero
    values[2, 8, 0:5] = [-2000, -1024, 100.4, 100.6, 5000]
    classes = np.zeros(values.shape, np.uint8)
    classes[2, 8, 0:5] = [1, 1, 1, 2, 2]
    found = counts_of(values, classes, (5.0, 1.0, 1.0), outputs=3, levels=CT)
    vector = found.vector()
    assert len(vector) == length(3)
    assert vector[CASES] == [1]
    # 1.02^81.27 = 5 and 1.02^0 = 1: the bins of 81 and 0, the first of which is -151
    assert np.flatnonzero(vector[SPACINGS]).tolist() == [232, 350 + 151, 700 + 151]
    assert np.flatnonzero(vector[SIDES]).tolist() == [1, 257 + 4, 514 + 3]  # eighths
    # 1.02^186.3 = 40 mm, 1.02^175.0 = 32 mm, 1.02^160.5 = 24 mm
    assert np.flatnonzero(vector[EXTENTS]).tolist() == [186, 384 + 175, 768 + 160]
    places = np.flatnonzero(vector[INTENSITIES]).tolist()
    assert places == [0, 1, 1 + 1124, 1 + 1125, 1 + LEVELS]  # below, -1024, 100, 101, above
    assert vector[CLASSES] == [10 * 40 * 50 - 5, 3, 2]
    assert Counts.read(vector).vector() == vector


@pytest.mark.parametrize(
    ("mm", "bin"),
    [(1.0, 151), (1.009, 151), (1.011, 152), (0.001, 0), (0.0, 0), (50.0, 349), (900.0, 349)],
)
def test_lengths_have_bins_of_two_percent(mm: float, bin: int) -> None:
    # The edge after 1 mm lies at 1.02^0.5 = 1.00995 mm.
    zeros = np.zeros((1, 1, 1), np.float32)
    found = counts_of(zeros, zeros.astype(np.uint8), (mm, 1, 1), outputs=2, levels=CT)
    assert np.flatnonzero(found.spacings[0]).tolist() == [bin]


def test_a_volume_of_zeros_is_whole() -> None:
    zeros = np.zeros((8, 16, 24), np.float32)
    found = counts_of(zeros, zeros.astype(np.uint8), (1, 1, 1), outputs=2, levels=CT)
    assert [np.flatnonzero(row).tolist() for row in found.sides] == [[1], [2], [3]]
    facts = fingerprint(found, ("background", "liver"), CT)
    assert facts["intensity"] == facts["suggested"] == {}


@pytest.mark.parametrize(
    ("counts", "percentile", "bin"),
    [
        ([0, 4, 0, 4], 50, 1),
        ([0, 4, 0, 4], 51, 3),
        ([1, 0, 199], 0.5, 0),
        ([1, 0, 200], 0.5, 2),  # 0.5 % of 201 are 1.005: the second
        ([3], 99.5, 0),
        ([0, 0], 50, None),
    ],
)
def test_percentiles(counts: list[int], percentile: float, bin: int | None) -> None:
    assert at_percentile(np.array(counts), percentile) == bin


def test_a_fingerprint_by_hand() -> None:
    # Two volumes of one labelled voxel each: 100 and 300 units; slices 5 mm apart.
    def one(value: float) -> Counts:
        values = np.full((8, 64, 64), -1000, np.float32)
        classes = np.zeros(values.shape, np.uint8)
        values[0, 0, 0], classes[0, 0, 0] = value, 1
        return counts_of(values, classes, (1.02**81, 1, 1), outputs=3, levels=CT)

    both = Counts.read(np.add(one(100).vector(), one(300).vector()).tolist())
    facts = fingerprint(both, NAMES, CT)
    assert facts["cases"] == 2
    assert facts["spacing_mm"]["z"] == dict.fromkeys(("p10", "p50", "p90"), round(1.02**81, 4))
    assert facts["voxels"]["y"]["p50"] == 64
    assert facts["labelled_voxels"] == {"background": 2 * (8 * 64 * 64 - 1), "liver": 2,
                                        "tumour": 0}  # fmt: skip
    assert facts["intensity"] == {
        "mean": 200, "std": 100, "p0.5": 100, "median": 100, "p99.5": 300, "share_below": 0,
        "share_above": 0, "step": 1,
    }  # fmt: skip
    assert facts["suggested"]["data.volumes.window"] == [100, 300]
    # 4.97 mm are more than 3 times 1 mm, and 8 slices less than a third of 64: the 10th percentile
    assert facts["suggested"]["spacing_mm"] == {"z": round(1.02**81, 4), "y": 1, "x": 1}
    assert facts["suggested"]["data.image_size"] == 64
    assert facts["suggested"]["patch"] == {"z": 8, "y": 64, "x": 64}


def test_slices_far_apart_take_the_tenth_percentile() -> None:
    def one(power: int) -> Counts:
        values = np.full((4, 64, 64), 1, np.float32)
        classes = np.ones(values.shape, np.uint8)
        return counts_of(values, classes, (1.02**power, 1, 1), outputs=2, levels=CT)

    vectors = [one(power).vector() for power in (60, 100, 100)]
    facts = fingerprint(Counts.read(np.sum(vectors, axis=0).tolist()), NAMES[:2], CT)
    assert facts["spacing_mm"]["z"]["p50"] == round(1.02**100, 4)
    assert facts["suggested"]["spacing_mm"]["z"] == round(1.02**60, 4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_a_federation_has_the_fingerprint_of_all_in_one_place(site_of: list[int]) -> None:
    vectors = [volume(seed).vector() for seed in range(6)]
    sites: list[list[int]] = [[0] * length(3) for _ in range(3)]
    for site, vector in zip(site_of, vectors, strict=True):
        sites[site] = np.add(sites[site], vector).tolist()
    pooled, summed = np.sum(vectors, axis=0).tolist(), np.sum(sites, axis=0).tolist()
    told = [json.dumps(fingerprint(Counts.read(v), NAMES, CT)) for v in (pooled, summed)]
    assert told[0] == told[1]


def _one_more(at: int) -> list[float]:
    vector: list[float] = [*map(float, volume().vector())]
    vector[at] += 1
    return vector


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ([1.0], "1 numbers; expected at least"),
        (_one_more(0), r"1 spacings along z of 2 volume\(s\)"),
        (_one_more(400), r"2 spacings along y of 1 volume\(s\)"),
        (_one_more(1051), r"2 sides along z of 1"),
        (_one_more(2000), r"2 extents along z of 1"),
        (_one_more(3000), "intensities of"),
        ([*volume().vector()[:-1], -1], "a count of -1"),
        ([*volume().vector()[:-1], 0.5], "no counts"),
        ([*volume().vector()[:-1], float("nan")], "no counts"),
        ([*volume().vector()[:-1], 1e300], "no counts"),
    ],
)
def test_what_are_no_counts_is_said(vector: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Counts.read(vector)
