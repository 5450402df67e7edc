"""What a site keeps of a sealed relay: its key of the running cycle, and the model it trained last.

A key is deleted when the next cycle's is made: what was sealed for it before cannot be opened any
more. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from primia_flwr.errors import DataError, ProtocolError
from primia_flwr.primitives.keys import KeyPair
from primia_flwr.storage.atomic import PRIVATE, make_folder, write_atomic
from primia_flwr.storage.reading import read_bytes, reading

_KEY, _MODEL = "cycle.key", "held.safetensors"
_EXPECTED = "what this site wrote; delete the folder, and the site is skipped for one cycle"


@dataclass(frozen=True)
class Held:
    """A model that this site has trained: in which cycle, and which sites are in it.

    `experiment`: its hash, because a run of more rounds would have the last model given out twice.
    """

    cycle: int
    members: tuple[str, ...]
    arrays: Mapping[str, npt.NDArray[Any]]
    experiment: str = ""


class Baton:
    """The relay's files of one run at one site.

    Parameters
    ----------
    folder : Path
        Private to the site and the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, cycle: int) -> KeyPair:
        """Return the key of a cycle; a new one, in place of an earlier cycle's, where it has none.

        Raises
        ------
        ProtocolError
            If the site is in a later cycle already.
        DataError
            If its file is damaged.
        """
        known = self._known()
        if known is not None and known[0] == cycle:
            return known[1]
        if known is not None and known[0] > cycle:
            raise ProtocolError(
                f"cycle {cycle}, and this site is in cycle {known[0]}; expected none that is over"
            )
        pair = KeyPair.generate()
        make_folder(self._folder)
        content = f"{cycle}\n".encode() + pair.private_bytes()
        write_atomic(self._folder / _KEY, content, mode=PRIVATE)
        return pair

    def pair(self, cycle: int) -> KeyPair:
        """Return the key that this site has shown for a cycle.

        Raises
        ------
        ProtocolError
            If it has shown none, or is in another cycle by now.
        DataError
            If its file is damaged.
        """
        known = self._known()
        if known is None or known[0] != cycle:
            raise ProtocolError(
                f"this site has shown no key of cycle {cycle}, or it is over; expected the cycle "
                f"{known[0] if known else 'whose key it was asked for'}"
            )
        return known[1]

    def _known(self) -> tuple[int, KeyPair] | None:
        """Return the running cycle and its key; None before the first."""
        path = self._folder / _KEY
        if not path.is_file():
            return None
        with reading(path, error=DataError, expected=_EXPECTED):
            number, secret = read_bytes(path).split(b"\n", 1)
            return int(number), KeyPair.from_private(secret)

    def keep(self, held: Held) -> None:
        """Keep a trained model, in place of the one before."""
        described = {"cycle": str(held.cycle), "members": "\n".join(held.members)}
        described["experiment"] = held.experiment
        make_folder(self._folder)
        write_atomic(self._folder / _MODEL, save(dict(held.arrays), described), mode=PRIVATE)

    def held(self) -> Held:
        """Return the model that this site trained last.

        Raises
        ------
        ProtocolError
            If there is none.
        DataError
            If its file is damaged.
        """
        path = self._folder / _MODEL
        if not path.is_file():
            raise ProtocolError("this site has trained nothing in this run; expected a model of it")
        with (
            reading(path, error=DataError, expected=_EXPECTED),
            safe_open(path, framework="numpy") as file,
        ):
            told = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            members = tuple(told["members"].split("\n"))
            return Held(int(told["cycle"]), members, arrays, told["experiment"])
