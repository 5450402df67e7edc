"""A mask without its file: the values of its pixels in a new PNG, and nothing else."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from primia_flwr.data.files.images import decode
from primia_flwr.data.files.masks import decode_partner
from primia_flwr.data.manifest import Manifest, Sample

SUFFIX = ".png"
REMOVED = "all but the values of the mask"
_LARGEST_BYTE = 255


def bare_mask(data: Manifest, image: str, mask: str) -> bytes:
    """Return a mask, of whatever kind its file is, as a PNG of the same values.

    Parameters
    ----------
    data : Manifest
        Where the files are, and which values the classes have.
    image, mask : str
        Paths below its root; they are only read.

    Raises
    ------
    DataError
        If the mask cannot be read, has another value, or another size than its image.
    """
    size = decode(Path(data.root) / image).shape[:2]
    classes = decode_partner(data, Sample(image, 0, "", mask=mask), (size[0], size[1]))
    kind = np.uint8 if max(data.mask_values) <= _LARGEST_BYTE else np.uint16
    stream = io.BytesIO()
    Image.fromarray(np.array(data.mask_values, kind)[classes]).save(stream, "PNG")
    return stream.getvalue()
