"""Which rows of pixels are the same picture, whatever their files' formats and headers are."""

import hashlib
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

_LOOKED_AT = 1024  # bytes of a row that are compared first
_FEWEST_LEVELS = 16  # of a picture that can be told from another one


def same_pictures(
    rows: npt.NDArray[np.uint8], row_of: Mapping[str, int], digests: Mapping[str, str]
) -> dict[str, str]:
    """Return by path what images of the same picture share, and no others.

    Parameters
    ----------
    rows : ndarray
        (N, bytes of an image) uint8, perhaps mapped from a file.
    row_of, digests : mapping
        Row, and SHA-256 of the file, by path.

    Returns
    -------
    dict
        The SHA-256 of the file, or of the pixels where another image has the same. A picture of a
        few grey levels, such as an empty one, is the same only if its file is.
    """
    start = max(0, rows.shape[1] - _LOOKED_AT) // 2
    parts = [_digest(row[start : start + _LOOKED_AT]) for row in rows]
    alike = Counter(parts)
    whole = {
        path: _digest(rows[row])
        for path, row in row_of.items()
        if alike[parts[row]] > 1 and _is_rich(rows[row])
    }
    twice = Counter(whole.values())
    return {
        path: f"pixels {whole[path]}" if twice[whole.get(path, "")] > 1 else digest
        for path, digest in digests.items()
    }


def _digest(pixels: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _is_rich(pixels: npt.NDArray[np.uint8]) -> bool:
    return int(np.count_nonzero(np.bincount(pixels, minlength=256))) >= _FEWEST_LEVELS
