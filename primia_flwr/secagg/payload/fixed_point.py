"""Real vectors as fixed-point numbers modulo 2^32, on a scale on which no sum can wrap.

Client k sends q_k = round(u_k r_k / step) with r_k = w_k / w_max in (0, 1], half to even. With
m = (2^31 - 1) // num_clients and step = clip / m, |u_k| <= clip gives |q_k| <= m, and the sum
over all clients stays within int32.

Bound: the decoded mean differs from sum_S(w_k u_k) / sum_S(w_k) by at most
(|S| / 2) step / rho, rho = sum_S r_k, in each entry. On top of it comes the rounding of the
arithmetic: in float64 by 2^-19 of the bound and 2^-50 of clip / rho, then to the dtype of
the output (float32: 2^-24 of the mean).
"""

import math
import sys
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, DivergenceError, ProtocolError

Overflow = Literal["clip", "decline"]
Real = NDArray[np.float32] | NDArray[np.float64]
_MAX_CLIENTS = 65_536
_CHUNK = 1 << 15  # entries: a chunk in float64 fits a second-level cache


@dataclass(frozen=True)
class FixedPoint:
    """The scale of a vector.

    Parameters
    ----------
    clip : float
        Largest magnitude of an entry, finite and above 0.
    num_clients : int
        Clients whose encoded vectors may be added up, 1 to 65,536.

    Raises
    ------
    ConfigError
        If one is out of range.
    """

    clip: float
    num_clients: int

    def __post_init__(self) -> None:
        if not 1 <= self.num_clients <= _MAX_CLIENTS:
            raise ConfigError(f"num_clients={self.num_clients}; expected 1 to {_MAX_CLIENTS}")
        if not (math.isfinite(self.clip) and self.clip > 0 and self.step >= sys.float_info.min):
            raise ConfigError(
                f"clip={self.clip}; expected the largest magnitude of an entry of the update, "
                "finite and above 0, e.g. 1.0"
            )

    @property
    def step(self) -> float:
        """The value of 1 in the encoding."""
        return self.clip / self.max_encoded

    @property
    def max_encoded(self) -> int:
        """The largest magnitude that one client encodes."""
        return (2**31 - 1) // self.num_clients

    def encode(
        self,
        update: Real,
        weight_ratio: float,
        out: NDArray[np.uint32],
        *,
        overflow: Overflow = "clip",
    ) -> int:
        """Encode `update * weight_ratio` into `out`; return how many entries were clipped.

        Parameters
        ----------
        update : ndarray
            (n,) float32 or float64, the local model less the global one.
        weight_ratio : float
            The client's weight over the largest possible, in (0, 1].
        out : ndarray
            (n,) uint32, contiguous: two's complement.
        overflow : {"clip", "decline"}
            What becomes of an entry beyond `clip`: the nearest bound, or an error.

        Raises
        ------
        DivergenceError
            If an entry is not finite, or beyond `clip` under "decline" (its index is named).
            `out` is then partly written: not to be sent.
        ProtocolError
            If an argument is not as described.
        """
        if not 0 < weight_ratio <= 1:
            raise ProtocolError(f"weight_ratio={weight_ratio}; expected 0 < weight_ratio <= 1")
        _check_pair(update, out)
        scale = weight_ratio / self.step
        signed = out.view(np.int32)
        scratch = np.empty(min(_CHUNK, update.size), np.float64)
        clipped = 0
        for at in range(0, update.size, _CHUNK):
            entries = update[at : at + _CHUNK]
            values = scratch[: entries.size]
            if float(entries.min()) >= -self.clip and float(entries.max()) <= self.clip:
                np.multiply(entries, scale, out=values, dtype=np.float64)
            else:
                np.copyto(values, entries)
                clipped += self._clip(values, at, overflow)
                np.multiply(values, scale, out=values)
            np.rint(values, out=values)
            np.copyto(signed[at : at + _CHUNK], values, casting="unsafe")
        return clipped

    def _clip(self, values: NDArray[np.float64], start: int, overflow: Overflow) -> int:
        """Clip in place, count; `start` is the index of the first value in the vector."""
        finite = np.isfinite(values)
        if not finite.all():
            first = int(np.argmin(finite))
            raise DivergenceError(
                f"entry {start + first} of the update is {values[first]}; expected finite "
                "numbers: has the training diverged?"
            )
        beyond = np.abs(values) > self.clip
        if overflow == "decline":
            first = int(np.argmax(beyond))
            raise DivergenceError(
                f"entry {start + first} of the update is {values[first]:.6g}; expected at most "
                f"clip={self.clip:.6g} in magnitude; raise clip, or allow clipping"
            )
        np.clip(values, -self.clip, self.clip, out=values)
        return int(beyond.sum())

    def decode(self, total: NDArray[np.uint32], weight_ratio_sum: float, out: Real) -> None:
        """Decode a sum of encoded vectors into the weighted mean.

        Parameters
        ----------
        total : ndarray
            (n,) uint32, contiguous: the sum modulo 2^32.
        weight_ratio_sum : float
            The sum of the weight ratios that are in it, in (0, num_clients].
        out : ndarray
            (n,) float32 or float64.

        Raises
        ------
        ProtocolError
            If an argument is not as described.
        """
        if not 0 < weight_ratio_sum <= self.num_clients:
            raise ProtocolError(
                f"weight_ratio_sum={weight_ratio_sum}; expected above 0 and at most "
                f"num_clients={self.num_clients}"
            )
        _check_pair(out, total)
        scale = self.step / weight_ratio_sum
        signed = total.view(np.int32)
        scratch = np.empty(min(_CHUNK, total.size), np.float64)
        for at in range(0, total.size, _CHUNK):
            entries = signed[at : at + _CHUNK]
            values = np.multiply(entries, scale, out=scratch[: entries.size])
            out[at : at + _CHUNK] = values


def _check_pair(real: Real, encoded: NDArray[np.uint32]) -> None:
    if real.dtype not in (np.float32, np.float64) or real.ndim != 1:
        raise ProtocolError(
            f"the real vector is {real.dtype} {real.shape}; expected float32 or float64 of one "
            "dimension"
        )
    if encoded.dtype != np.uint32 or encoded.shape != real.shape or not encoded.flags.c_contiguous:
        raise ProtocolError(
            f"the encoded vector is {encoded.dtype} {encoded.shape}; expected contiguous uint32 "
            f"{real.shape}"
        )
