"""Stored values of compressed pixels; to be called in a process that may die."""

import struct
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from primia_flwr.data.files.decoding.claims import Claims
from primia_flwr.data.files.decoding.codestream import Frame, check_jpeg, read_frame
from primia_flwr.data.files.decoding.stored import Array, Words
from primia_flwr.data.files.decoding.stream import DicomStream

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_8 = ("1.2.840.10008.1.2.4.50", _JPEG_EXTENDED)
_KINDS = {
    _RLE: "RLE",
    **{f"1.2.840.10008.1.2.4.{number}": "JPEG" for number in (50, 51, 57, 70)},
    **{f"1.2.840.10008.1.2.4.{number}": "JPEG-LS" for number in (80, 81)},
    **{f"1.2.840.10008.1.2.4.{number}": "JPEG 2000" for number in (90, 91, 201, 202, 203)},
}
"""What codestream a transfer syntax promises, of those that are decoded."""
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
_TAIL = 64


def compressed_words(file: DicomStream, claims: Claims) -> tuple[Words, str]:
    """Decode an encapsulated frame: its words, and their photometric interpretation.

    Raises
    ------
    Exception
        Whatever a decoder may raise; of this module ValueError.
    DataError
        If no decoder knows the transfer syntax.
    """
    kind = _KINDS.get(file.syntax)
    if kind is None:
        known = "that of an uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000 image"
        raise file.header.refuse("TransferSyntaxUID", file.syntax, known)
    if file.length is not None:
        raise ValueError(
            f"its pixels are not encapsulated, as its transfer syntax {file.syntax} asks"
        )
    stream = one_frame(file.pixels())
    frame = read_frame(stream)
    _check(frame, claims, kind)
    if file.syntax == _JPEG_EXTENDED and frame and frame.precision > 8 and not find_spec("libjpeg"):
        raise ValueError("a JPEG of 12 bits needs pylibjpeg-libjpeg, which is the extra jpeg12")
    pixels, photometric = _decoded(file.syntax, kind, stream, frame, claims)
    if file.syntax in _JPEG_8 and frame and frame.precision == 8:
        _check_words(stream)
    words = np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}")
    shift = 0 if frame is not None and frame.precision <= claims.stored else claims.shift
    stored = min(claims.stored, 8 * words.dtype.itemsize)
    return Words(words, stored, shift, claims.signed), photometric


def _decoded(
    syntax: str, kind: str, stream: bytes, frame: Frame | None, claims: Claims
) -> tuple[Array, str]:
    """Return pixels as a decoder gives them, and their photometric interpretation."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    options: Any = {
        "rows": claims.rows,
        "columns": claims.columns,
        "number_of_frames": 1,
        "samples_per_pixel": claims.samples,
        "photometric_interpretation": claims.photometric,
        "bits_allocated": 8 if frame and frame.precision <= 8 else claims.allocated,
        "bits_stored": max(frame.precision, 8) if frame is not None else claims.stored,
        "pixel_representation": int(claims.signed),
        "planar_configuration": int(claims.planar),
        "pixel_keyword": "PixelData",
        "correct_unused_bits": False,  # it takes the lowest bits for the stored ones
    }
    decoder = get_decoder(UID(syntax))
    try:
        found, told = decoder.as_array(encapsulate([stream], has_bot=False), index=0, **options)
    except MemoryError:
        raise
    except Exception:  # of several libraries, whose words help nobody
        raise ValueError(f"its {kind} codestream is damaged") from None
    return found, str(told["photometric_interpretation"])


def _check_words(stream: bytes) -> None:
    try:
        check_jpeg(stream)
    except ValueError:
        raise ValueError("its JPEG codestream is damaged") from None


def one_frame(content: bytes) -> bytes:
    """Join the fragments of a frame.

    Raises
    ------
    ValueError
        If there are several frames: a decoder would show the first, and say nothing.
    """
    (frame, *others) = _joined(_fragments(content))
    if others:
        raise ValueError("it has more than one frame, which NumberOfFrames does not say")
    return frame


def frames_of(content: bytes, count: int) -> list[bytes]:
    """Return each frame, whatever the table of offsets says, which is often wrong.

    Raises
    ------
    ValueError
        If they are not so many.
    """
    fragments = _fragments(content)
    frames = fragments if len(fragments) == count else _joined(fragments)
    if len(frames) != count:
        raise ValueError(f"its {len(fragments)} compressed fragments are not {count} frames")
    return frames


def _fragments(content: bytes) -> list[bytes]:
    """Return the fragments of encapsulated pixels; the first item is a table of offsets."""
    fragments, at = list[bytes](), 0
    while content[at : at + 4] == _ITEM:
        (length,) = struct.unpack_from("<L", content, at + 4)
        fragment = content[at + 8 : at + 8 + length]
        if len(fragment) < length:
            raise ValueError(f"it ends after {len(fragment):,} of {length:,} compressed bytes")
        fragments.append(fragment)
        at += 8 + length
    if content[at : at + 4] not in (_END, b"") or len(fragments) < 2:
        raise ValueError("its compressed pixels are no row of items")
    return fragments[1:]


def _joined(fragments: list[bytes]) -> list[bytes]:
    """Join fragments to frames: one begins where a codestream does, after the end of another."""
    frames = [[fragments[0]]]
    for before, fragment in pairwise(fragments):
        has_ended = b"\xff\xd9" in before[-_TAIL:] and fragment.startswith(_STARTS)
        if has_ended or (_is_rle(before) and _is_rle(fragment)):
            frames.append([])
        frames[-1].append(fragment)
    return [b"".join(parts) for parts in frames]


def _is_rle(fragment: bytes) -> bool:
    """Whether it begins as a frame in RLE: with 1 to 15 segments, the first after 64 bytes."""
    return len(fragment) >= 64 and fragment[4:8] == b"\x40\0\0\0" and fragment[1:4] == bytes(3)


def _check(frame: Frame | None, claims: Claims, kind: str) -> None:
    if frame is None:
        if kind != "RLE":
            raise ValueError("its codestream has no intact head")
        return
    if frame.kind != kind:
        raise ValueError(f"its codestream is {frame.kind}, and its transfer syntax says {kind}")
    told: Any = (frame.rows, frame.columns, frame.samples)
    if told != (claims.rows, claims.columns, claims.samples):
        raise ValueError(
            f"its codestream has {frame.rows} x {frame.columns} pixels of {frame.samples} "
            f"sample(s), its header {claims.rows} x {claims.columns} of {claims.samples}"
        )
    if frame.precision > claims.allocated:
        raise ValueError(
            f"its codestream has {frame.precision} bits a sample, its header {claims.allocated}"
        )
