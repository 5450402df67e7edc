"""A site's private state between rounds: optimiser, early stopping. It never leaves the site.

One file a round, written atomically; the last few are kept, so that a run that goes on from
an older checkpoint finds the state of exactly that round.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import check_entry, parse_json, reading

_STOPPING = "stopping"


@dataclass(frozen=True)
class RoundState:
    """What a site remembers of a finished round.

    `optimizer` holds the optimiser's named tensors, or nothing; `stopping` the early-stopping
    counters as plain numbers.
    """

    optimizer: dict[str, Tensor] = field(default_factory=dict)
    stopping: dict[str, Any] = field(default_factory=dict)


class SiteState:
    """The states of one experiment at one site, one file a round.

    Parameters
    ----------
    folder : Path
        Private to the site.
    experiment : str
        The experiment's hash; states of another experiment are not read.
    keep : int
        How many rounds are kept.
    """

    def __init__(self, folder: Path, experiment: str, *, keep: int) -> None:
        self._folder = folder / experiment
        self._keep = keep

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self._folder

    def load(self, round_number: int) -> RoundState:
        """Return the state after a round; an empty one where the site has none.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        path = self._path(round_number)
        if not path.is_file():
            return RoundState()
        expected = "what this site wrote; delete it, and the site begins anew in the next round"
        with (
            reading(path, error=DataError, expected=expected),
            safe_open(path, framework="pt") as file,
        ):
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            stopping = parse_json((file.metadata() or {}).get(_STOPPING, "{}"), finite=False)
            check_entry(stopping, {})
        return RoundState(optimizer=tensors, stopping=stopping)

    def newest(self, round_number: int) -> RoundState:
        """Return the newest state after a round or one before it; an empty one where there is none.

        Raises
        ------
        DataError
            As `load`.
        """
        known = (int(path.stem[-6:]) for path in self._folder.glob("round-*.safetensors"))
        return self.load(max((number for number in known if number <= round_number), default=0))

    def save(self, round_number: int, state: RoundState) -> None:
        """Write the state after a round, and delete what is older than the last `keep`."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = save(state.optimizer, metadata={_STOPPING: json.dumps(state.stopping)})
        write_atomic(self._path(round_number), content, mode=PRIVATE)
        for old in sorted(self._folder.glob("round-*.safetensors"))[: -self._keep]:
            old.unlink(missing_ok=True)

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:06d}.safetensors"
