"""How far the outline of a called region lies from the true one, in pixels.

Source: Huttenlocher et al. 1993 (Hausdorff distance); its 95th percentile as in Taha & Hanbury
2015, the larger of the two directions. Distances are those of scipy.
"""

import numpy as np
import numpy.typing as npt

from primia_flwr.statistics.arrays import FloatArray


def surface_distances(
    true: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the 95th percentile of the Hausdorff distance, and the mean surface distance.

    Parameters
    ----------
    true, called : (H, W) bool
        Regions; what lies outside the image counts as outside both. Of D square slices side by
        side, (H, D * H), distances go through the volume.

    Returns
    -------
    tuple of float
        In pixels; NaN where a region is empty. The mean is over the outlines of both.
    """
    if not true.any() or not called.any():
        return float("nan"), float("nan")
    true, called = _stacked(true), _stacked(called)
    there, back = _from(true, called), _from(called, true)
    farthest = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return farthest, float(np.concatenate([there, back]).mean())


def _from(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the distance of each pixel of the first outline to the second outline."""
    from scipy.ndimage import distance_transform_edt

    distances: FloatArray = distance_transform_edt(~_outline(second))[_outline(first)]
    return distances


def _outline(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of a region that touch what is outside it, by a side."""
    from scipy.ndimage import binary_erosion

    return np.asarray(region & ~binary_erosion(region))


def _stacked(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return square slices side by side as a volume (D, H, W); one slice as it is."""
    height, width = region.shape
    if width == height or width % height:
        return region
    return np.stack(np.split(region, width // height, axis=1))
