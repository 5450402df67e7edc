"""Threshold secret sharing of byte strings: any t shares give the secret, t - 1 say nothing.

Each byte is shared on its own, by a random polynomial of degree t - 1 over GF(2^8) with the
Rijndael polynomial x^8 + x^4 + x^3 + x + 1, whose value at 0 is the byte.

Every product has one public factor (a coordinate or what follows from coordinates). The secret
factor goes through shifts and masks alone, never into an index or a branch, so that neither
the cache nor the clock tells of it.

Source: Shamir 1979; the field and the interpolation of SLIP-0039.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ProtocolError

_Bytes = NDArray[np.uint8]
_REDUCTION = np.uint8(0x1B)  # x^8 = x^4 + x^3 + x + 1


def _double(a: _Bytes) -> _Bytes:
    return (a << np.uint8(1)) ^ ((a >> np.uint8(7)) * _REDUCTION)


def _powers_of_three() -> _Bytes:
    """Return 3^0 to 3^254: 3 generates the field's multiplicative group."""
    powers = np.ones(255, np.uint8)
    for i in range(1, 255):
        powers[i : i + 1] = _double(powers[i - 1 : i]) ^ powers[i - 1 : i]
    return powers


_EXP = _powers_of_three()
_LOG = np.zeros(256, np.int64)
_LOG[_EXP] = np.arange(255)


def matmul(public: _Bytes, secret: _Bytes) -> _Bytes:
    """Multiply matrices over GF(2^8): (m, t) uint8 by (t, n) uint8 gives (m, n) uint8."""
    product = np.zeros((public.shape[0], secret.shape[1]), np.uint8)
    for bit in range(8):
        taken = (public >> np.uint8(bit) & np.uint8(1)) * np.uint8(255)
        product ^= np.bitwise_xor.reduce(taken[:, :, None] & secret[None], axis=1)
        secret = _double(secret)
    return product


def split(
    secret: bytes,
    threshold: int,
    xs: Sequence[int],
    *,
    rng: Callable[[int], bytes] = secrets.token_bytes,
) -> dict[int, bytes]:
    """Share a secret among the holders of the coordinates `xs`.

    Parameters
    ----------
    secret : bytes
        Of any length; each share has the same length.
    threshold : int
        Shares that give the secret back, 2 to 255.
    xs : sequence of int
        Distinct coordinates from 1 to 255, at least `threshold` of them.
    rng : callable
        Returns that many bytes from a cryptographic source.

    Raises
    ------
    ProtocolError
        If the threshold or a coordinate is out of range, or a coordinate is repeated.
    """
    _check_coordinates(xs, at=0)
    if not 2 <= threshold <= len(xs):
        raise ProtocolError(
            f"threshold={threshold}; expected 2 to {len(xs)}, the number of shares: one share "
            "alone must not be the secret, and all together must give it"
        )
    drawn = secret + rng((threshold - 1) * len(secret))
    coefficients = np.frombuffer(drawn, np.uint8).reshape(threshold, len(secret))
    logs = _LOG[np.asarray(xs)][:, None] * np.arange(threshold)
    values = matmul(_EXP[logs % 255], coefficients)
    return {x: value.tobytes() for x, value in zip(xs, values, strict=True)}


class Interpolation:
    """Lagrange interpolation from fixed coordinates, computed once and used for many secrets.

    Parameters
    ----------
    xs : sequence of int
        Distinct coordinates of the shares, 0 to 255, none of them `at`.
    at : int
        Where the polynomials are evaluated; the secret of `split` is at 0.

    Raises
    ------
    ProtocolError
        If there is no coordinate, or one is out of range, repeated, or equal to `at`.
    """

    def __init__(self, xs: Sequence[int], at: int = 0) -> None:
        _check_coordinates(xs, at)
        self._xs = tuple(xs)
        points = np.asarray(xs)
        distances = points[:, None] ^ points[None]  # differences are XORs; _LOG[0] counts as 0
        logs = _LOG[points ^ at].sum() - _LOG[points ^ at] - _LOG[distances].sum(axis=1)
        self._coefficients = _EXP[logs % 255][None]

    def combine(self, shares: Mapping[int, bytes]) -> bytes:
        """Return the secret of `shares`; those of other coordinates are ignored.

        Raises
        ------
        ProtocolError
            If a share is missing or the lengths differ.
        """
        return self.combine_many([shares])[0]

    def combine_many(self, shares: Sequence[Mapping[int, bytes]]) -> list[bytes]:
        """Return the secret of each of many sets of shares, all of one length.

        Raises
        ------
        ProtocolError
            If a share is missing or the lengths differ.
        """
        if not shares:
            return []
        rows = [b"".join(self._share(one, x) for one in shares) for x in self._xs]
        lengths = {len(one[x]) for one in shares for x in self._xs}
        if len(lengths) != 1:
            raise ProtocolError(
                f"the shares have {sorted(lengths)} bytes; expected one length for all shares"
            )
        length = lengths.pop()
        table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), len(shares) * length)
        values = matmul(self._coefficients, table)[0].tobytes()
        return [values[i * length : (i + 1) * length] for i in range(len(shares))]

    def _share(self, shares: Mapping[int, bytes], x: int) -> bytes:
        if x not in shares:
            raise ProtocolError(
                f"the share at x={x} is missing among {len(shares)}; expected those at "
                f"{list(self._xs)}"
            )
        return shares[x]


def combine(shares: Mapping[int, bytes], *, threshold: int) -> bytes:
    """Return the secret of at least `threshold` shares, by their coordinates.

    Raises
    ------
    ProtocolError
        If there are fewer shares than `threshold`, a coordinate is not in 1 to 255, or the
        lengths differ.
    """
    if len(shares) < threshold:
        raise ProtocolError(
            f"{len(shares)} shares of the secret; expected at least threshold={threshold}"
        )
    return Interpolation(sorted(shares)[:threshold]).combine(shares)


def _check_coordinates(xs: Sequence[int], at: int) -> None:
    if not xs:
        raise ProtocolError("no coordinate of a share is given; expected at least one")
    for x in (*xs, at):
        if not 0 <= x <= 255:
            raise ProtocolError(f"share coordinate x={x}; expected 1 to 255")
    if at in xs:
        raise ProtocolError(f"share coordinate x={at}; expected another: there lies the secret")
    if len(set(xs)) != len(xs):
        repeated = next(x for x in xs if list(xs).count(x) > 1)
        raise ProtocolError(f"share coordinate x={repeated} is repeated; expected distinct ones")
