"""Arrays that a site keeps from round to round for itself: written before anything leaves.

One file a round. A round that is asked for again begins from the same file as the first time, and
overwrites what it left: nothing is lost, and nothing counts twice. Imports no torch.
"""

import re
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import reading

_KeptArrays = dict[str, npt.NDArray[Any]]
_ROUND = re.compile(r"\d{6,}")
_RUN = "run"


class KeptRounds:
    """The arrays of one kind that a site keeps of one run.

    Parameters
    ----------
    folder : Path
        Private to the site and the experiment.
    kind : str
        What they are, e.g. `unsent`: files `unsent-000007.safetensors`.
    run : str
        The run's own name: what another run of the same experiment left is not read.
    keep : int
        How many of the rounds in which the site took part are kept.
    """

    def __init__(self, folder: Path, kind: str, *, run: str, keep: int) -> None:
        self._folder, self._kind, self._run, self._keep = folder, kind, run, keep

    def load(self, number: int) -> _KeptArrays:
        """Return what was kept after a round; nothing where the run kept nothing.

        Raises
        ------
        DataError
            If the file cannot be read.
        """
        path = self._path(number)
        if not path.is_file():
            return {}
        expected = "what this site wrote; delete it, and the site begins anew in the next round"
        with (
            reading(path, error=DataError, expected=expected),
            safe_open(path, framework="numpy") as file,
        ):
            if (file.metadata() or {}).get(_RUN) != self._run:
                return {}
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def newest(self, number: int) -> _KeptArrays:
        """Return what was kept last, after round `number` or one before; nothing where nothing was.

        Raises
        ------
        DataError
            As `load`.
        """
        known = [found for found in self._rounds() if found <= number]
        return next((kept for at in sorted(known, reverse=True) if (kept := self.load(at))), {})

    def save(self, number: int, arrays: _KeptArrays, *, needed: int = 0) -> None:
        """Write what is left after a round, and delete what is old, or of a later one.

        `needed`: a round that the next one may begin from, however old.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self._path(number), save(arrays, {_RUN: self._run}), mode=PRIVATE)
        past = sorted(found for found in self._rounds() if found <= number)
        for found in self._rounds() - {needed, *past[-self._keep :]}:
            self._path(found).unlink(missing_ok=True)

    def _rounds(self) -> set[int]:
        names = [path.stem for path in self._folder.glob(f"{self._kind}-*.safetensors")]
        found = [_ROUND.fullmatch(name.removeprefix(f"{self._kind}-")) for name in names]
        return {int(number[0]) for number in found if number}

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._kind}-{number:06d}.safetensors"
