"""What travels under `protocol=crypten`: kinds of frames, and tensors as bytes.

A message holds int64 tensors: for each its type, its number of dimensions and its dimensions
(8 bytes each, little-endian), then the entries of all (8 bytes each, little-endian). The receiver
knows every shape beforehand and takes nothing else: a longer message is refused before it is
read, one with other shapes before it is used. Nothing is pickled.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from primia_flwr.errors import ProtocolError, ServiceError

_Shape = Sequence[int]

HELLO, TENSORS = 64, 65  # between the parties
SEED, REQUEST, CORRECTION, DONE = 66, 67, 68, 69  # with the crypto provider

_INT64 = 1  # the one type that travels
_WORD = np.dtype("<i8")


def pack(tensors: Sequence[Tensor]) -> list[NDArray[np.int64]]:
    """Return the parts of the message that holds these int64 tensors of the CPU.

    Raises
    ------
    ServiceError
        If a tensor is of another type or elsewhere.
    """
    for tensor in tensors:
        if tensor.dtype != torch.int64 or tensor.device.type != "cpu":
            raise ServiceError(
                f"a tensor of {tensor.dtype} on {tensor.device} was to be sent; expected int64 on "
                "the CPU"
            )
    header = np.array(_header([tensor.shape for tensor in tensors]), _WORD)
    entries = [tensor.detach().contiguous().numpy().astype(_WORD, copy=False) for tensor in tensors]
    return [header, *entries]


def unpack(body: bytearray, shapes: Sequence[_Shape]) -> list[Tensor]:
    """Return the tensors of a message, which must have these very shapes.

    Raises
    ------
    ProtocolError
        If it has others.
    """
    header, expected = _header(shapes), packed_bytes(shapes)
    words = np.frombuffer(body, _WORD, len(body) // 8)
    if len(body) != expected or words[: len(header)].tolist() != header:
        raise ProtocolError(
            f"sent {len(body)} bytes that do not hold int64 tensors of "
            f"{[tuple(shape) for shape in shapes]} ({expected} bytes); do both parties run the "
            "same version and model?"
        )
    entries = torch.from_numpy(words[len(header) :].astype(np.int64, copy=False))
    parts = torch.split(entries, [math.prod(shape) for shape in shapes])
    return [part.reshape(tuple(shape)) for part, shape in zip(parts, shapes, strict=True)]


def packed_bytes(shapes: Sequence[_Shape]) -> int:
    """Return the length of a message with tensors of these shapes."""
    return 8 * (len(_header(shapes)) + sum(math.prod(shape) for shape in shapes))


def _header(shapes: Sequence[_Shape]) -> list[int]:
    return [word for shape in shapes for word in (_INT64, len(shape), *shape)]
