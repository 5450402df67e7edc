"""What a DICOM header is read from: no more bytes than there are, or than a header may have."""

import os
import zlib
from typing import BinaryIO

_MAX_HEADER = 16 << 20
"""Most bytes that a deflated file may have before its pixels, and after them."""
_MAX_ELEMENT = 64 << 20
_MAX_READS = 400_000
"""Most reads of one header: an element takes one or two, and so does an item of a sequence."""
_CHUNK = 1 << 16


def _counted(reads: int) -> int:
    if reads >= _MAX_READS:
        raise ValueError("its header has too many elements")
    return reads + 1


class Bounded:
    """A file that asks for no more memory than it has bytes, whatever an element claims."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.largest = _MAX_ELEMENT
        self.tell = file.tell
        self._reads = 0

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or all that are left."""
        self._reads = _counted(self._reads)
        left = max(0, self.size - self._file.tell())
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > self.largest:
            raise ValueError(f"an element before its pixels has {wanted:,} bytes")
        return self._file.read(wanted)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place, and return it."""
        return self._file.seek(offset, whence)


class Inflating:
    """The inflated rest of a file, as far as it has been read; `allowed` bytes and no more."""

    def __init__(self, file: Bounded) -> None:
        self.allowed = _MAX_HEADER
        self._file = file
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._inflated = bytearray()
        self._at = self._reads = 0

    def tell(self) -> int:
        """Return the place in the inflated bytes."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place, and return it."""
        if whence == 2:
            raise OSError("its end is not known before it is inflated")
        self._at = offset + (self._at if whence else 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or all that are left."""
        self._reads = _counted(self._reads)
        end = self.allowed if size is None or size < 0 else self._at + size
        while len(self._inflated) < min(end, self.allowed + 1) and (more := self._more()):
            self._inflated += more
        if len(self._inflated) > self.allowed and end > self.allowed:
            raise ValueError(f"it inflates to more than {self.allowed:,} bytes")
        found = bytes(self._inflated[self._at : end])
        self._at += len(found)
        return found

    def check_rest(self) -> None:
        """Refuse a rest that inflates to more than a header may have; it is not kept."""
        rest = 0
        while more := self._more():
            rest += len(more)
            if rest > _MAX_HEADER:
                raise ValueError(f"it inflates to more than {_MAX_HEADER:,} bytes after its pixels")

    def _more(self) -> bytes:
        """Inflate the next bytes, at most `_CHUNK`; none at the end."""
        while not self._inflater.eof:
            raw = self._inflater.unconsumed_tail or self._file.read(_CHUNK)
            if found := self._inflater.decompress(raw, _CHUNK):
                return found
            if not raw:
                break
        return b""
