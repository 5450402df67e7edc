"""The patch that suits a spacing and a size, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.data.fingerprint.patch import MOST_VOXELS, patch_size


@pytest.mark.parametrize(
    ("spacing", "shape", "patch"),
    [
        # 36, 18, 9, 5 and 50, 25, 13, 7: sides of 8 and more are halved, thrice; multiples of 8.
        ((1, 1, 1), (36, 50, 35), [40, 56, 40]),
        # A cube in millimetres is one in voxels, and 128^3 is the most.
        ((1, 1, 1), (300, 300, 300), [128, 128, 128]),
        # Slices 4 mm apart: y and x alone are halved, to 16 voxels of 4 mm; then all, to 4, 8, 8;
        # then y and x: multiples of 2 and 16.
        ((4, 1, 1), (8, 64, 64), [8, 64, 64]),
        # Too few voxels to halve anything.
        ((1, 1, 1), (3, 5, 7), [3, 5, 7]),
        ((1, 1, 1), (1, 1, 1), [1, 1, 1]),
        # One slice cannot be thinner: the others are cut, though it is all of its axis.
        ((39.6072, 0.21, 0.2656), (1, 2873, 2532), [1, 1536, 1280]),
        # The cube of 256^3 voxels of 1 x 0.125 x 0.125 mm is 64 mm wide: 64 x 512 x 512, of which
        # z has 9: padded to 10, too many; z is the largest share of the volume, so 8: just 128^3.
        ((1, 0.125, 0.125), (9, 4000, 4000), [8, 512, 512]),
    ],
)
def test_patches_by_hand(
    spacing: tuple[float, ...], shape: tuple[int, ...], patch: list[int]
) -> None:
    assert patch_size(spacing, shape) == patch


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.05, 50), min_size=3, max_size=3),
    st.lists(st.integers(1, 40_000), min_size=3, max_size=3),
)
def test_it_ends_within_the_most_voxels(spacing: list[float], shape: list[int]) -> None:
    found = patch_size(spacing, shape)
    assert min(found) >= 1
    assert math.prod(found) <= MOST_VOXELS
