"""The update that a site holds until it is asked to give it into a sum: private to site and run.

It is on the disk before the site says that it is ready, and goes when the next model comes, or
when all validate a later one. Until then the same sum may be asked for again. Imports no torch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from clients.leaving import leaving
from clients.site.identity import SecureSite
from primia_flwr.errors import DataError
from primia_flwr.messages.buffered import Waiting
from primia_flwr.secagg.state.given_once import GivenOnce
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import reading

_UPDATE, _ABOUT = "update", "about"


@dataclass(frozen=True)
class Held:
    """An update, what was measured beside it, and what the site was told when it began.

    Parameters
    ----------
    number : int
        The round whose model it was sent.
    base : bytes
        Digest of that model.
    told : str
        Digest of all it was told, 64 hex digits.
    entries, outputs : int
        Of the update, and of the model.
    metrics : mapping
        As the handler measured them.
    update : ndarray or None
        (entries,) float32; None for a site that declines.
    """

    number: int
    base: bytes
    told: str
    entries: int
    outputs: int
    metrics: dict[str, Any]
    update: npt.NDArray[np.float32] | None

    @property
    def waiting(self) -> Waiting:
        """What a buffer says of it."""
        return Waiting(self.number, self.told)


class HeldUpdate:
    """The file with the update that a site holds.

    Parameters
    ----------
    folder : Path
        Private to the site and the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "held.safetensors"

    def save(self, held: Held) -> None:
        """Keep an update, in place of any other."""
        about = {
            "number": held.number,
            "base": held.base.hex(),
            "told": held.told,
            "entries": held.entries,
            "outputs": held.outputs,
            "metrics": held.metrics,
        }
        arrays = {} if held.update is None else {_UPDATE: held.update}
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self._path, save(arrays, {_ABOUT: json.dumps(about)}), mode=PRIVATE)

    def load(self) -> Held | None:
        """Return the update; None where the site holds none.

        Raises
        ------
        DataError
            If the file cannot be read.
        """
        if not self._path.is_file():
            return None
        expected = "what this site wrote; delete it, and the site trains anew in the next round"
        with (
            reading(self._path, error=DataError, expected=expected),
            safe_open(self._path, framework="numpy") as file,
        ):
            about = json.loads((file.metadata() or {})[_ABOUT])
            base = bytes.fromhex(about.pop("base"))
            update = file.get_tensor(_UPDATE) if _UPDATE in file.keys() else None  # noqa: SIM118
            return Held(base=base, update=update, **about)

    def forget(self) -> None:
        """Erase it."""
        self._path.unlink(missing_ok=True)


def held_by(site: SecureSite) -> HeldUpdate:
    """Return what a site holds of a run."""
    return HeldUpdate(site.vault.folder)


def given_once(site: SecureSite) -> GivenOnce:
    """Return into which sums of a run a site has given what it held."""
    return GivenOnce(site.vault.folder / "given.json")


def forget_given(site: SecureSite, number: int | None) -> None:
    """Erase what the site holds of an earlier round than one whose model all have now."""
    if number is None or not leaving(site.experiment).holds:
        return
    held = held_by(site)
    known = held.load()
    if known is not None and known.number <= number:
        held.forget()
