"""A DICOM file's pixels, from the open file to 8 bits; whatever goes wrong is one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding.claims import MAX_PIXELS, MONOCHROME, Claims, read_claims
from primia_flwr.data.files.decoding.colour import colour
from primia_flwr.data.files.decoding.compressed import compressed_words
from primia_flwr.data.files.decoding.grey import grey
from primia_flwr.data.files.decoding.header import Header
from primia_flwr.data.files.decoding.stored import Words, native_words
from primia_flwr.data.files.decoding.stream import DicomStream, open_dicom
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reason_of


def decode_compressed(path: Path) -> npt.NDArray[np.uint8]:
    """Decode a compressed DICOM file in this process, which may die of it; as `read_dicom`."""
    with refusing(path), open_dicom(path) as file:
        return shown(file, read_claims(file, at_most=MAX_PIXELS), is_native=False)


def stored_compressed(path: Path) -> tuple[Words, str]:
    """Return a compressed file's stored values and their photometric interpretation; as above."""
    with refusing(path), open_dicom(path) as file:
        return compressed_words(file, read_claims(file, at_most=MAX_PIXELS))


def shown(file: DicomStream, claims: Claims, *, is_native: bool) -> npt.NDArray[np.uint8]:
    """Show a file's pixels, compressed or not.

    Raises
    ------
    Exception
        Whatever a decoder may raise.
    """
    photometric = claims.photometric
    if is_native:
        words = native_words(file, claims)
    else:
        words, photometric = compressed_words(file, claims)
    with np.errstate(all="ignore"):  # floats may be anything
        if photometric in MONOCHROME:
            return grey(words, file.header, inverted=_is_inverted(file.header, photometric))
        return colour(words, file.header, photometric)


def _is_inverted(header: Header, photometric: str) -> bool:
    """Whether low values are bright: PresentationLUTShape says so first, PS3.3 C.11.6.1.2."""
    shape = header.text("PresentationLUTShape").upper()
    return shape == "INVERSE" if shape in ("IDENTITY", "INVERSE") else photometric == "MONOCHROME1"


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn whatever a parser or a decoder raises into one sentence that names the file."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({reason_of(error)}); expected a readable image file"
        ) from None
    except MemoryError:
        raise DataError(
            f"{path}: needs more memory than there is; expected a smaller image: export it smaller"
        ) from None
    except Exception as error:  # on arbitrary bytes pydicom and its plugins raise almost anything
        raise DataError(
            f"{path}: cannot be decoded ({reason_of(error)}); expected an intact DICOM image: "
            "export it again, uncompressed"
        ) from error
