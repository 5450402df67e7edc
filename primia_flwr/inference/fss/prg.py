"""The hash under the trees: H(x) = AES-128_k(x) xor x on blocks of 128 bits, many at a time.

A block is a row of two words, the low one first, and a word is little-endian on every machine.
The two low bits of a block are no part of a seed: they say what the hash of a seed is for
(0 its left child, 1 its right one, 2 a `LEAF`), so that a seed gives three unrelated blocks.
Seeds therefore have 126 bits. The key k is public. A new one for each dealing keeps an attack on
many dealings at once from being cheaper than on one alone.

Source: Matyas, Meyer, Oseas 1985; Guo, Katz, Wang, Yu 2020, "Efficient and Secure Multiparty
Computation from Fixed-Key Block Ciphers"; Boyle, Gilboa, Ishai 2016.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

from primia_flwr.errors import ProtocolError

Words = NDArray[np.uint64]
WORD = np.dtype("<u8")
KEY_BYTES = 16
BLOCK_BYTES = 16
LEAF = np.uint64(2)
SEED_BITS = np.uint64(2**64 - 4)  # of the low word


class Hash:
    """The hash under one key, with room for the ciphertext of up to `capacity` blocks.

    An instance is for one thread.

    Parameters
    ----------
    key : bytes
        Of the cipher, 16 bytes, uniform but not secret.
    capacity : int
        Blocks that are hashed at a time, at most.

    Raises
    ------
    ProtocolError
        If the key does not have 16 bytes.
    """

    def __init__(self, key: bytes, capacity: int) -> None:
        if len(key) != KEY_BYTES:
            raise ProtocolError(f"the cipher key of a tree has {len(key)} bytes; expected 16")
        # AES is all that this mode is used for: each block on its own is what H asks for
        self._cipher = Cipher(AES(key), ECB()).encryptor()
        output = np.empty(BLOCK_BYTES * (capacity + 1), np.uint8)
        self._output = output.data
        self.scratch: Words = output[:-BLOCK_BYTES].view(WORD).reshape(capacity, 2)

    def apply(self, blocks: Words) -> None:
        """Replace blocks, (n, 2) and contiguous, by their hashes; `scratch` is overwritten."""
        self._cipher.update_into(blocks.view(np.uint8).reshape(-1).data, self._output)
        np.bitwise_xor(blocks, self.scratch[: len(blocks)], out=blocks)
