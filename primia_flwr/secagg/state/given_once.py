"""Into which sum a site has given what it computed from a model: one sum only, for good.

An update that waits is no part of a round that others could name. Were it masked in one instance,
opened there by the others' shares, and masked again in another, both sums would hold it, and their
difference shows what else is in them. So what is computed from one model goes into one sum: the
first that could be opened without this site, or that it has helped to open.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from primia_flwr.errors import ProtocolError
from primia_flwr.storage.atomic import PRIVATE, write_atomic

_KEPT = 2  # instances that a site can still be asked to open, see `secagg.protocol.vault`


@dataclass(frozen=True)
class _Asked:
    """What is in the sum of an instance: digests as hex digits."""

    base: str
    told: str


@dataclass(frozen=True)
class _Given:
    """Into which sum an update was given: a digest, and over whom it was opened, if it was."""

    told: str
    survivors: list[str]


@dataclass
class _Known:
    """`bound`: what was given, by model; `asked`: what an instance is about."""

    bound: dict[str, _Given] = field(default_factory=dict)
    asked: dict[str, _Asked] = field(default_factory=dict)

    def check(self, base: str, told: str, survivors: Sequence[str] = ()) -> None:
        """Refuse another sum than the one that was given, or another list of it."""
        given = self.bound.get(base, _Given(told, []))
        opened = given.survivors and survivors and given.survivors != list(survivors)
        if given.told != told or opened:
            raise ProtocolError(
                "an update is asked into a sum after it was given into another; expected the same "
                "sum over the same sites again, or an update of a newer model: the difference of "
                "two sums shows single sites"
            )


class GivenOnce:
    """The sums of one run into which a site has given its updates.

    Parameters
    ----------
    path : Path
        A JSON object, private to the site and the run; made if missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, base: bytes, told: bytes) -> None:
        """Refuse a sum where what follows from the model was given into another.

        `base`: digest of the model. `told`: digest of all that says what is in the sum.

        Raises
        ------
        ProtocolError
            If it was, or what was given cannot be read.
        """
        self._read().check(base.hex(), told.hex())

    def mask(self, instance: int, base: bytes, told: bytes, *, bound: bool) -> None:
        """Check, and remember before a masked vector leaves.

        `bound`: the sum can be opened without this site, so that it counts as given.

        Raises
        ------
        ProtocolError
            As `check`.
        """
        known = self._read()
        known.check(base.hex(), told.hex())
        known.asked[str(instance)] = _Asked(base.hex(), told.hex())
        for old in sorted(known.asked, key=int)[:-_KEPT]:
            del known.asked[old]
        if bound:
            known.bound.setdefault(base.hex(), _Given(told.hex(), []))
        self._write(known)

    def check_survivors(self, instance: int, survivors: Collection[str]) -> None:
        """Refuse a list of survivors other than that of before; nothing of other kinds of sums.

        Raises
        ------
        ProtocolError
            As `check`.
        """
        known = self._read()
        if asked := known.asked.get(str(instance)):
            known.check(asked.base, asked.told, sorted(survivors))

    def release(self, instance: int, survivors: Collection[str]) -> None:
        """Check, and remember that the sum of an instance counts as given: before shares leave.

        Raises
        ------
        ProtocolError
            As `check_survivors`.
        """
        self.check_survivors(instance, survivors)
        known = self._read()
        if asked := known.asked.get(str(instance)):
            known.bound[asked.base] = _Given(asked.told, sorted(survivors))
            self._write(known)

    def _write(self, known: _Known) -> None:
        write_atomic(self._path, json.dumps(asdict(known)), mode=PRIVATE)

    def _read(self) -> _Known:
        if not self._path.exists():
            return _Known()
        try:
            content = json.loads(self._path.read_bytes())
            bound = {_hex(key): _given(value) for key, value in content["bound"].items()}
            asked = {str(int(key)): _asked(value) for key, value in content["asked"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ProtocolError(
                f"{self._path} cannot be read; expected what this site wrote; without it the site "
                "cannot know which updates it has given, so it gives none"
            ) from None
        return _Known(bound, asked)


def _hex(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return bytes.fromhex(value).hex()


def _given(value: Mapping[str, Any]) -> _Given:
    return _Given(_hex(value["told"]), _names(value["survivors"]))


def _asked(value: Mapping[str, Any]) -> _Asked:
    return _Asked(_hex(value["base"]), _hex(value["told"]))


def _names(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError
    return sorted(map(str, value))
