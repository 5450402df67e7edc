"""Whose images are in the weights that a run starts from: what a private run must know of them.

A private run bounds what its own steps say of a patient. Weights that were trained on the same
patient before say more, so a private run starts from weights that nobody's images are in, from
weights whose own epsilon is known and added to the claim, or from weights of which somebody states
that none of this run's patients was in them. A saved model's card tells which it is.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.errors import CheckpointError
from primia_flwr.storage.reading import parse_json, read_text, reading

FILE = "first-weights.json"
_Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Provenance:
    """What weights were trained on.

    `unprotected`: somebody's images without privacy, or it is not known. `epsilon`, `delta`: what
    private trainings, added up, have cost those whose images they used. `drawn`: all images were
    synthetic, so no patient's.
    """

    unprotected: bool = False
    epsilon: float = 0.0
    delta: float = 0.0
    drawn: bool = True

    def then(self, later: "Provenance") -> "Provenance":
        """Return that of weights that were trained further."""
        return Provenance(
            self.unprotected or later.unprotected,
            self.epsilon + later.epsilon,
            self.delta + later.delta,
            self.drawn and later.drawn,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Provenance":
        """Read what `to_dict` made.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        found = cls(**values)
        numbers, flags = (found.epsilon, found.delta), (found.unprotected, found.drawn)
        if not all(type(flag) is bool for flag in flags) or not all(
            type(n) in (int, float) and math.isfinite(n) and n >= 0 for n in numbers
        ):
            raise ValueError(f"provenance={dict(values)!r:.200}")
        return found


NOBODY = Provenance()
UNKNOWN = Provenance(unprotected=True, drawn=False)


def read_added(run_dir: Path) -> Provenance:
    """Return what a run's first weights add to its claim, as its folder says.

    Nothing where it does not say: in folders of before 2026-11-29.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    path = run_dir / FILE
    if not path.exists():
        return NOBODY
    with reading(path, error=CheckpointError, expected="what the run wrote; copy it again"):
        return Provenance.from_dict(parse_json(read_text(path))["added"])


def after_run(
    start: Provenance, privacy: PrivacyConfig, *, epsilon: float | None, synthetic: bool
) -> Provenance:
    """Return whose images are in the weights that a run ends with.

    `start`: of its first weights, as `provenance_of` knows it. `epsilon`: of the run alone, None
    where it is not known.
    """
    known = epsilon is not None and math.isfinite(epsilon)
    own = Provenance(
        not known, float(epsilon or 0) if known else 0.0, privacy.delta if known else 0.0, synthetic
    )
    return start.then(own)


def arrays_digest(arrays: _Arrays) -> str:
    """Return the SHA-256 of a model's arrays, hexadecimal: names, types, shapes, numbers.

    In the names' order and little-endian, so that it is the same on every machine.
    """
    digest = hashlib.sha256(b"primia first weights v1\0")
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def same_arrays(found: _Arrays, expected: _Arrays) -> bool:
    """Say whether arrays are the expected ones up to what processors round differently."""
    return found.keys() == expected.keys() and all(
        found[name].shape == array.shape and np.allclose(found[name], array, rtol=1e-4, atol=1e-6)
        for name, array in expected.items()
    )
