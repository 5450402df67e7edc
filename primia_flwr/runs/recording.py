"""Keeps, in a simulation, what the coordinator received in each round, for `primia attack`.

Off by default and refused in a deployment: there, one file of it is a site's own update, which a
plain run's coordinator holds in memory for a round and nobody should find on its disk.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.messages.secure import unflatten
from primia_flwr.runs import received
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.storage.atomic import PRIVATE, write_atomic

_Arrays = Mapping[str, npt.NDArray[Any]]


class Recording:
    """Writes `received/round-NNN/` below a run's folder.

    A round that is repeated overwrites what came before.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sent: _Arrays = {}

    @classmethod
    def of(cls, experiment: Experiment, folder: Path | None) -> "Recording | None":
        """Return the recording of a simulation that asks for one, else None."""
        asked = experiment.debug.record_received and folder is not None
        return cls(cast(Path, folder)) if asked else None

    def begin(self, server_round: int, model: _Arrays, *, sent: Iterable[str] = ()) -> None:
        """Keep the global model that the sites are about to get, in place of earlier files.

        `sent`: the arrays that the sites send back, in a secure run.
        """
        self._sent = {name: model[name] for name in sent}
        for stale in received.path_of(self._folder, server_round, "*").parent.glob("*.safetensors"):
            stale.unlink()
        self._write(server_round, received.MODEL, received.GLOBAL_MODEL, model)

    def site_model(self, server_round: int, site: str, arrays: _Arrays, *, after: str = "") -> None:
        """Keep a site's model as it came in a plain run.

        `after`: of a relay, whose model it was trained from; none where it was the round's.
        """
        told = {received.AFTER: after} if after else {}
        self._write(server_round, site, received.SITE_MODEL, arrays, **told)

    def masked(self, server_round: int, site: str, vectors: list[Vector]) -> None:
        """Keep a site's masked update as it came in a secure run; uint32."""
        words = cast(npt.NDArray[np.float32], vectors[0])  # cut into arrays by size alone
        self._write(server_round, site, received.MASKED, unflatten(words, self._sent))

    def opened(
        self, server_round: int, mean: npt.NDArray[np.float32], survivors: Iterable[str]
    ) -> None:
        """Keep the mean update that a secure sum gave."""
        arrays = unflatten(mean, self._sent)
        self._write(
            server_round,
            received.SUM,
            received.MEAN_UPDATE,
            arrays,
            **{received.SURVIVORS: ",".join(survivors)},
        )

    def _write(self, server_round: int, name: str, kind: str, arrays: _Arrays, **more: str) -> None:
        content = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        path = received.path_of(self._folder, server_round, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save(content, {received.KIND: kind, **more}), mode=PRIVATE)
