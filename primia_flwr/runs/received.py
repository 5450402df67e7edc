"""What a simulation's coordinator received, on disk: the material of the attacks.

`received/round-NNN/` of a run with `debug.record_received=true` holds `model.safetensors`
(the global model of that round, as it was sent), and one file for each site, with the arrays
that came: the site's model in a plain run; its masked vector, cut into the model's arrays, in a
secure one, and `sum.safetensors`, the mean update that the coordinator opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.reading import reading

FOLDER = "received"
MODEL = "model"
SUM = "sum"
KIND = "kind"  # key of a file's metadata
# kinds of a file: what its arrays are
GLOBAL_MODEL, SITE_MODEL, MASKED, MEAN_UPDATE = "global-model", "site-model", "masked", "mean"
_EXPECTED = "a file that primia train wrote; record the run again"
_KINDS = (GLOBAL_MODEL, SITE_MODEL, MASKED, MEAN_UPDATE)
AFTER = "after"  # key of a model's metadata in a relay: whose model it was trained from
SURVIVORS = "survivors"  # key of the sum's metadata: the sites in it, joined by commas


@dataclass(frozen=True)
class Received:
    """One file: what its arrays are, and the arrays, by name.

    `arrays`: float32, but uint32 for a masked vector (words modulo 2^32).
    """

    kind: str
    arrays: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    def change(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the update it stands for, `w1 - w0` by name, float32; of trained arrays only.

        Of a masked vector the words are read as signed integers, which is how an encoded update
        would read: its scale is unknown to who has not the masks, and no direction depends on it.

        Parameters
        ----------
        base : mapping of str to Tensor
            The round's global model, w0.

        Raises
        ------
        DataError
            If names or shapes are not the model's.
        """
        odd = sorted(self.arrays.keys() - base.keys())
        odd += [n for n, v in self.arrays.items() if n in base and v.shape != base[n].shape]
        if odd:
            raise DataError(
                f"received array {odd[0]!r} does not fit the round's model; expected the files of "
                "one run; record the run again"
            )
        if self.kind == MASKED:
            return {n: _signed(v) for n, v in self.arrays.items()}
        if self.kind == MEAN_UPDATE:
            return dict(self.arrays)
        return {n: v - base[n] for n, v in self.arrays.items()}


def rounds_of(run_dir: Path) -> list[int]:
    """Return the numbers of the rounds that a run recorded, ascending.

    Raises
    ------
    ConfigError
        If it recorded none.
    """
    found = sorted(
        int(path.name.removeprefix("round-"))
        for path in (run_dir / FOLDER).glob("round-*")
        if path.name.removeprefix("round-").isdecimal()
        and (path / f"{MODEL}.safetensors").is_file()
    )
    if not found:
        raise ConfigError(
            f"run={run_dir}; expected a run that kept what its coordinator received; "
            "simulate it again with debug.record_received=true"
        )
    return found


def path_of(run_dir: Path, server_round: int, name: str) -> Path:
    """Return the file of a site, `model` or `sum`, in a round (from 1)."""
    return run_dir / FOLDER / f"round-{server_round:03d}" / f"{name}.safetensors"


def sites_of_round(run_dir: Path, server_round: int) -> list[str]:
    """Return the sites of which the coordinator received something in a round, sorted."""
    folder = path_of(run_dir, server_round, MODEL).parent
    names = (path.stem for path in folder.glob("*.safetensors"))
    return sorted(name for name in names if name not in (MODEL, SUM))


def trained_from(run_dir: Path, server_round: int, name: str) -> str:
    """Return the site whose model a site of a relay was handed; none where it was the round's.

    Raises
    ------
    DataError
        As `read_received`.
    """
    path = path_of(run_dir, server_round, name)
    with (
        reading(path, error=DataError, expected=_EXPECTED),
        safe_open(path, framework="numpy") as file,
    ):
        return str((file.metadata() or {}).get(AFTER, ""))


def read_received(run_dir: Path, server_round: int, name: str) -> Received:
    """Read one file.

    Raises
    ------
    DataError
        If it is missing, damaged, or not of a kind in the table.
    """
    path = path_of(run_dir, server_round, name)
    with (
        reading(path, error=DataError, expected=_EXPECTED),
        safe_open(path, framework="pt") as file,
    ):
        metadata = dict(file.metadata() or {})
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    kind = metadata.get(KIND, "")
    if kind not in _KINDS:
        raise DataError(
            f"{path}: {KIND}={kind!r:.40}; expected one of {', '.join(_KINDS)}; record the run "
            "again"
        )
    return Received(kind, arrays, metadata)


def _signed(words: Tensor) -> Tensor:
    """Read words modulo 2^32 as two's complement, float32."""
    return torch.from_numpy(words.numpy().view(np.int32).astype(np.float32))
