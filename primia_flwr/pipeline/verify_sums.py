"""An audit of the sums, in a simulation: the securely learned mean against the sites' updates.

Each simulated site writes the update that it is about to mask into its own folder; after the
round the mean of them, in float64, is compared with what the coordinator learned. Never in a
deployment: there nobody may see a single update.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reading

_FILE = "audited-update.npz"
_HALF_A_UNIT = 2.0**-24
_CHUNK = 1 << 20  # entries: the float64 copies stay small


def write_update(folder: Path, update: npt.NDArray[np.float32], weight: float) -> None:
    """Keep a site's update and its weight until the round is over."""
    np.savez(folder / _FILE, update=update, weight=np.float64(weight))


def _read(file: Path, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float32], float]:
    expected = "what the site wrote in this round; set debug.verify_sums=false"
    with (
        reading(file, error=DataError, expected=expected),
        np.load(file, allow_pickle=False) as content,
    ):
        update, weight = content["update"], float(content["weight"])
        if update.dtype != np.float32 or update.shape != shape:
            raise ValueError(f"an update {update.dtype} {update.shape}")
        return update, weight


def largest_error(run_dir: Path, sites: Iterable[str], mean: npt.NDArray[np.float32]) -> float:
    """Return the largest difference of an entry of the mean from the float64 weighted mean.

    What the mean's own type makes of a number, half a unit in the last place of a float32
    (2^-24 of it), is taken off: it is the same for every way to learn the mean.

    Parameters
    ----------
    run_dir : Path
        The simulation's output folder.
    sites : iterable of str
        Those in the sum. Their files are read and deleted.
    mean : ndarray
        (entries,) float32, as the coordinator learned it.
    """
    files = [run_dir / "sites" / site / _FILE for site in sites]
    updates, weights = zip(*(_read(file, mean.shape) for file in files), strict=True)
    worst = 0.0
    for at in range(0, mean.size, _CHUNK):
        part = slice(at, at + _CHUNK)
        exact = sum(
            weight * update[part].astype(np.float64)
            for weight, update in zip(weights, updates, strict=True)
        ) / sum(weights)
        error = np.abs(exact - mean[part]) - _HALF_A_UNIT * np.abs(exact)
        worst = max(worst, float(error.max()))
    for file in files:
        file.unlink()
    return worst
