"""What CrypTen draws its masks from: our streams in place of PyTorch's generators.

CrypTen masks with MT19937 under seeds of 64 bits: it can be predicted from its output, and its
seeds can be tried. All of CrypTen's draws in an encrypted inference go through two functions, and
these through a table of generators. Both are replaced:

| in CrypTen                                   | here                                           |
| -------------------------------------------- | ---------------------------------------------- |
| `common.rng.generate_random_ring_element`    | 64-bit words of a `Stream`                     |
| `common.rng.generate_kbit_random_tensor`     | the lowest k bits of such words                |
| both, where they were imported by name       | the same: `arithmetic`, `binary` and           |
|                                              | `tfp_provider`, `ttp_provider`                 |
| `generators["prev"]`, `["next"]`             | streams of two 32-byte seeds, one drawn by     |
|                                              | each party and told to the other over TLS:     |
|                                              | the shares of zero that inputs are hidden by   |
| `generators["local"]`                        | a stream of a seed that never leaves the party:|
|                                              | random bits that break ties of a maximum       |
| `generators["global"]`                       | nothing: only dropout asks for it, and fails   |

A draw from anything that is not a `Stream` is refused, and so is a draw on a GPU. What a party
shares, it knows: with two parties the shares of zero hide an input from the other one, which
never sees the first one's share; all that is ever opened is hidden by the provider's triples.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from primia_flwr.errors import ServiceError
from primia_flwr.inference.arithmetic.randomness import Stream, fresh_seed
from primia_flwr.inference.crypten.door import DRAWING_MODULES, crypten

_CPU = torch.device("cpu")
_WORD_BITS = 64


def use_streams(party: int, *, seeds: tuple[bytes, bytes]) -> None:
    """Give CrypTen its streams.

    Parameters
    ----------
    party : int
        0 or 1.
    seeds : tuple of bytes
        The seeds that party 0 and party 1 drew for this computation, 32 bytes each.
    """
    for module in DRAWING_MODULES:
        for name, function in _REPLACED.items():
            if hasattr(module, name):
                setattr(module, name, function)
    crypten.generators["prev"] = {_CPU: Stream(seeds[1 - party], "crypten zero")}
    crypten.generators["next"] = {_CPU: Stream(seeds[party], "crypten zero")}
    crypten.generators["local"] = {_CPU: Stream(fresh_seed(), "crypten local")}
    crypten.generators["global"] = {}


def drop_streams() -> None:
    """Take the streams away: CrypTen cannot draw until it is given others."""
    for name in crypten.generators:
        crypten.generators[name] = {}


def ring_elements(
    size: Iterable[int],
    ring_size: int = 2**_WORD_BITS,
    generator: Stream | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return uniform elements of the ring of integers modulo 2^64, int64.

    Raises
    ------
    ServiceError
        If they are not to come from a `Stream`, or are to be on a GPU, or in another ring.
    """
    if ring_size != 2**_WORD_BITS:
        raise ServiceError(f"ring_size={ring_size}; expected 2^64, the one ring of encryption")
    return bit_strings(size, _WORD_BITS, generator, device)


def _stream(generator: Stream | None, device: torch.device | str | None) -> Stream:
    if device is not None and torch.device(device) != _CPU:
        raise ServiceError(f"masks on {device}; expected the CPU, where their streams are")
    stream = generator if generator is not None else crypten.generators["local"].get(_CPU)
    if not isinstance(stream, Stream):
        raise ServiceError(
            f"masks from {type(stream).__name__}; expected a stream of AES; masks are drawn only "
            "between the beginning and the end of an encrypted computation"
        )
    return stream


def bit_strings(
    size: Iterable[int],
    bitlength: int | None = None,
    generator: Stream | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return uniform integers of so many bits (64 if not said), int64.

    Raises
    ------
    ServiceError
        If they are not to come from a `Stream`, or are to be on a GPU.
    """
    words = _stream(generator, device).uint64(tuple(size))
    bits = _WORD_BITS if bitlength is None else bitlength
    if bits < _WORD_BITS:
        words = words & np.uint64(2**bits - 1)
    return torch.from_numpy(words.view(np.int64))


_REPLACED = {
    "generate_random_ring_element": ring_elements,
    "generate_kbit_random_tensor": bit_strings,
}
