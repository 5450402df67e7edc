"""JPEG streams (JPEG, lossless, JPEG-LS, JPEG 2000) without what is not needed for their pixels.

Source: ITU-T T.81, annex B; T.87, annex C; T.800, annex A.
"""

import re
import struct

_TABLES_AND_FRAMES = {*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xF7, 0xF8}
_JPEG_LS = 0xF7
_ALONE = {0x01, *range(0xD0, 0xD8)}
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_AFTER_LS_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_START, _END, _SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_J2K_START, _J2K_COMMENT = b"\xff\x4f\xff\x51", 0xFF64
_J2K_TILE = 0xFF90


def bare_jpeg(content: bytes, *, orientation: int = 1) -> tuple[bytes, list[str]]:
    """Return a stream without application segments, comments and what follows it.

    JFIF without its thumbnail and Adobe's note on colours stay, and an orientation other than 1 is
    written anew.

    Parameters
    ----------
    content : bytes
        From its start of image on.
    orientation : int
        As in EXIF, 1 to 8.

    Returns
    -------
    bytes, list of str
        The stream, and the names of what was removed.

    Raises
    ------
    ValueError
        If it is no row of segments.
    """
    if content[:2] != b"\xff\xd8":
        raise ValueError("it does not begin as JPEG does")
    kept, removed, at = [b"\xff\xd8"], list[str](), 2
    is_ls = _has_frame(content, _JPEG_LS)
    if orientation != 1:
        kept.append(_orientation_segment(orientation))
    while True:
        marker, at = _marker(content, at)
        if marker == _END:
            removed += ["data after the image"] * (at < len(content.rstrip(b"\0")))
            return b"".join((*kept, b"\xff\xd9")), removed
        if marker in _ALONE:
            continue
        segment, at = _segment(content, at)
        if held := _held(marker, segment, kept, is_ls=is_ls):
            kept.append(b"\xff" + bytes([marker]) + struct.pack(">H", len(held) + 2) + held)
        if held != segment:
            removed.append(_name(marker, segment))
        if marker == _SCAN:
            found = (_AFTER_LS_SCAN if is_ls else _AFTER_SCAN).search(content, at)
            if found is None:
                raise ValueError("it has no end")
            kept.append(content[at : found.start()])
            at = found.start()


def bare_jpeg_2000(content: bytes) -> tuple[bytes, list[str]]:
    """Return a codestream without the comments of its main header; as `bare_jpeg`.

    Raises
    ------
    ValueError
        If it is no codestream.
    """
    if content[:4] != _J2K_START:
        raise ValueError("it does not begin as a codestream of JPEG 2000 does")
    kept, removed, at = [content[:2]], list[str](), 2
    while True:
        (marker,) = struct.unpack_from(">H", content, at)
        if marker == _J2K_TILE:
            return b"".join((*kept, content[at:])), removed
        if marker < 0xFF00:
            raise ValueError("its main header is no row of segments")
        _, after = _segment(content, at + 2)
        if marker == _J2K_COMMENT:
            removed.append("COM")
        else:
            kept.append(content[at:after])
        at = after


def _held(marker: int, segment: bytes, kept: list[bytes], *, is_ls: bool) -> bytes:
    """Return what is kept of a segment; nothing if it goes."""
    if marker in _TABLES_AND_FRAMES:
        return segment
    if marker == 0xE0 and segment[:5] == b"JFIF\0" and len(segment) >= 14:
        seen = any(part[4:9] == b"JFIF\0" for part in kept)
        return b"" if seen else segment[:12] + b"\0\0"
    if marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
        return segment[:12]
    if marker == 0xE8 and is_ls and segment[:4] == b"mrfx":  # a transform of colours
        return segment[:5]
    return b""


def _has_frame(content: bytes, wanted: int) -> bool:
    """Whether the first frame is of one kind."""
    at = 2
    while True:
        marker, at = _marker(content, at)
        if marker in (_END, _SCAN):
            return False
        if marker == wanted:
            return True
        if marker not in _ALONE:
            _, at = _segment(content, at)


def _marker(content: bytes, at: int) -> tuple[int, int]:
    """Return a marker and where what follows it begins; fill bytes are passed over."""
    if content[at : at + 1] != b"\xff":
        raise ValueError("it is no row of segments")
    while content[at + 1 : at + 2] == b"\xff":
        at += 1
    if at + 1 >= len(content):
        raise ValueError("it has no end")
    return content[at + 1], at + 2


def _segment(content: bytes, at: int) -> tuple[bytes, int]:
    """Return a segment's content and where the next begins."""
    if at + 2 > len(content):
        raise ValueError("it ends within a segment")
    (length,) = struct.unpack_from(">H", content, at)
    if length < 2 or at + length > len(content):
        raise ValueError("it ends within a segment")
    return content[at + 2 : at + length], at + length


def _name(marker: int, segment: bytes) -> str:
    if marker == _COMMENT:
        return "COM"
    kind = f"APP{marker - 0xE0}" if 0xE0 <= marker <= 0xEF else f"segment {marker:02X}"
    known = {
        b"Exif": "EXIF", b"http": "XMP", b"Phot": "IPTC", b"ICC_": "ICC", b"JFIF": "JFIF thumbnail",
        b"JFXX": "thumbnail", b"MPF\0": "MPF",
    }  # fmt: skip
    return f"{kind} {known.get(segment[:4], '')}".strip()


def _orientation_segment(orientation: int) -> bytes:
    body = b"Exif\0\0" + orientation_tiff(orientation)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def orientation_tiff(orientation: int) -> bytes:
    """Return EXIF data that say the orientation and nothing else."""
    return b"II*\0" + struct.pack("<LHHHLHHL", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
