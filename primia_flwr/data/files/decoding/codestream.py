"""What the head of a compressed frame says of itself, and whether its end is there.

Sources: ITU-T T.81 B.2 (JPEG), T.87 C.2 (JPEG-LS), T.800 A.5 (JPEG 2000).
"""

import struct
from dataclasses import dataclass

_NO_FRAME = {0xC4, 0xC8, 0xCC}
_JPEG_LS = 0xF7
_ALONE = {0x01, *range(0xD0, 0xD9)}


@dataclass(frozen=True)
class Frame:
    """Size and bits a sample, as the codestream has them; `kind`: JPEG, JPEG-LS or JPEG 2000."""

    kind: str
    rows: int
    columns: int
    samples: int
    precision: int


def read_frame(stream: bytes) -> Frame | None:
    """Return what a JPEG, JPEG-LS or JPEG 2000 codestream says; None for another (RLE).

    Raises
    ------
    ValueError
        If it is one of these and its head is damaged, or its end is missing.
    """
    try:
        if stream[:2] == b"\xff\xd8":
            frame = _jpeg(stream)
        elif (at := stream[:4096].find(b"\xff\x4f\xff\x51")) >= 0:
            frame = _jpeg_2000(stream[at:])
        else:
            return None
    except (struct.error, IndexError):
        raise ValueError("its codestream has no intact head") from None
    if b"\xff\xd9" not in stream[-_PADDING:]:
        raise ValueError("its codestream has no end: it is cut off")
    return frame


_PADDING = 1024


def _jpeg(stream: bytes) -> Frame:
    at = 2
    while True:
        if stream[at] != 0xFF:
            raise ValueError("its codestream has no intact head")
        marker = stream[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            precision, rows, columns, samples = struct.unpack_from(">BHHB", stream, at + 4)
            kind = "JPEG-LS" if marker == _JPEG_LS else "JPEG"
            return Frame(kind, rows, columns, samples, precision)
        if marker in (0xDA, 0xD9):
            raise ValueError("its codestream has no frame")
        at += 2 + struct.unpack_from(">H", stream, at + 2)[0]


def _jpeg_2000(stream: bytes) -> Frame:
    right, low, left, top = struct.unpack_from(">4L", stream, 8)
    samples, depth = struct.unpack_from(">HB", stream, 40)
    return Frame("JPEG 2000", low - top, right - left, samples, (depth & 0x7F) + 1)


def check_jpeg(content: bytes) -> None:
    """Refuse a JPEG of 8 bits of which the decoder itself says that it is corrupt.

    Pillow and pydicom fill up what is missing, without a word. JPEG has no checksum: damage that
    gives another valid stream is seen by nobody.

    Raises
    ------
    ValueError
        With the decoder's words.
    """
    import simplejpeg  # where a JPEG is read only

    colours = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}
    _, _, stored, _ = simplejpeg.decode_jpeg_header(content, strict=True)
    kind = colours.get(stored, "RGB")
    # Every coefficient is read; of the pixels an eighth a side is enough.
    simplejpeg.decode_jpeg(content, colorspace=kind, min_height=1, min_width=1, strict=True)
