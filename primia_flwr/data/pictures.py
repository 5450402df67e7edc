"""Which stored images are the same picture, whatever their files' formats and headers are."""

import hashlib
from collections import Counter

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.store import Store

_LOOKED_AT = 1024  # bytes of a row that are compared first
_FEWEST_LEVELS = 16  # of a picture that can be told from another one


def pictures_of(store: Store) -> dict[str, str]:
    """Return by path what images of the same picture share, and no others.

    The SHA-256 of the file, or of the decoded pixels where another image has the same. A picture of
    a few grey levels, such as an empty one, is the same only if its file is.
    """
    rows = store.mapped().numpy().reshape(len(store.row_of), -1)
    start = max(0, rows.shape[1] - _LOOKED_AT) // 2
    parts = [_digest(row[start : start + _LOOKED_AT]) for row in rows]
    alike = Counter(parts)
    whole = {
        path: _digest(rows[row])
        for path, row in store.row_of.items()
        if alike[parts[row]] > 1 and _is_rich(rows[row])
    }
    twice = Counter(whole.values())
    return {
        path: f"pixels {whole[path]}" if twice[whole.get(path, "")] > 1 else digest
        for path, digest in store.digests.items()
    }


def _digest(pixels: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _is_rich(pixels: npt.NDArray[np.uint8]) -> bool:
    return int(np.count_nonzero(np.bincount(pixels, minlength=256))) >= _FEWEST_LEVELS
