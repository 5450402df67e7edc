"""Lines that are appended to a journal whole, and on the disk, or not at all.

A disk that is full for a moment would else leave half a line, to which the next one is glued.
"""

import contextlib
import os


def append_whole(descriptor: int, content: bytes) -> None:
    """Append to a file, and return when it is on the disk; of a failure nothing stays behind.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    before, view = os.fstat(descriptor).st_size, memoryview(content)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # else the next reader finds half a line
            os.ftruncate(descriptor, before)
        raise
