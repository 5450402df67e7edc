"""Rounds of a run as a site has answered them: numbers that only rise, one model for each.

A number that the coordinator chose freely would bind nothing: it could ask for the same round twice
over other sites, and call the second one another round.
"""

import json
from pathlib import Path

from primia_flwr.errors import ProtocolError
from primia_flwr.storage.atomic import PRIVATE, write_atomic


class RoundNumbers:
    """The newest round that a site has answered in each series of a run.

    Parameters
    ----------
    path : Path
        A JSON object, private to the site and the run; made if missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, series: str, number: int, base: bytes) -> None:
        """Refuse a round that is older than the newest, or the newest from another model.

        `series`: the kind of message and, in a search, the configuration. `number`: the round's.
        `base`: digest of the model that it starts from.

        Raises
        ------
        ProtocolError
            If the round is refused, or what was answered cannot be read.
        """
        newest, model = self._read().get(series, (number, base.hex()))
        if number < newest or (number == newest and base.hex() != model):
            raise ProtocolError(
                f"{series} round {number} is asked for, after round {newest} was answered; "
                f"expected a round above {newest}, or round {newest} of the same model again; "
                "start another run"
            )

    def record(self, series: str, number: int, base: bytes) -> None:
        """Check, and store durably: before the answer leaves.

        Raises
        ------
        ProtocolError
            As `check`.
        """
        self.check(series, number, base)
        content = {**self._read(), series: (number, base.hex())}
        write_atomic(self._path, json.dumps(content), mode=PRIVATE)

    def _read(self) -> dict[str, tuple[int, str]]:
        if not self._path.exists():
            return {}
        try:
            content = json.loads(self._path.read_bytes())
            return {key: (_whole(number), str(base)) for key, (number, base) in content.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            raise ProtocolError(
                f"{self._path} cannot be read; expected what this site wrote; without it the site "
                "cannot know which rounds it has answered, so it answers none"
            ) from None


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError
    return value
