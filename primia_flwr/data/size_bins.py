"""Bins of the histogram of image sizes: the shorter side of each image as it is stored."""

from itertools import pairwise

# Where each next bin begins, in pixels.
SIDE_EDGES = (128, 256, 512, 1024, 2048, 4096)
NUM_SIDE_BINS = len(SIDE_EDGES) + 1


def side_bins() -> list[str]:
    """Return the names of the bins, in pixels."""
    middle = [f"{low}-{high - 1}" for low, high in pairwise(SIDE_EDGES)]
    return [f"below {SIDE_EDGES[0]}", *middle, f"{SIDE_EDGES[-1]} and more"]
