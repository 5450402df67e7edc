"""A ledger in figures, for people: what was spent, by version of the data and in all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from primia_flwr.privacy.ledger import Ledger


@dataclass(frozen=True)
class VersionLine:
    """One version of the data.

    `alone`: epsilon of the charges on it. `worst`: epsilon of its most used unit, with the charges
    on other versions that contain it. `left`: what the ceiling leaves above that, None without one.
    """

    version: str
    units: int
    charges: int
    alone: float
    worst: float
    left: float | None


@dataclass(frozen=True)
class Statement:
    """The whole ledger. `epsilon`: of the most used unit of all, by the filter."""

    site: str
    unit: str
    delta: float
    ceiling: float | None
    epsilon: float
    left: float | None
    charges: int
    seq: int
    head: str
    unfinished: int
    versions: tuple[VersionLine, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "versions": [asdict(line) for line in self.versions]}


def statement(ledger: Ledger, *, ceiling: float | None = None) -> Statement:
    """Add a ledger up.

    Parameters
    ----------
    ceiling : float, optional
        To compare with; None: the one that was in force at the newest charge, if there was one.

    Raises
    ------
    DataError
        If the units of a version were changed.
    """
    charges, constants = ledger.charges(), ledger.account.constants
    if ceiling is None and charges:
        ceiling = charges[-1].ceiling
    lines = tuple(_line(ledger, version, ceiling) for version in ledger.account.versions)
    worst = max((line.worst for line in lines), default=0.0)
    head = ledger.head()
    return Statement(
        constants.site,
        constants.unit,
        constants.filter.delta,
        ceiling,
        worst,
        _left(ceiling, worst),
        len(charges),
        head.seq,
        head.hash,
        ledger.unfinished(),
        lines,
    )


def _line(ledger: Ledger, version: str, ceiling: float | None) -> VersionLine:
    account = ledger.account
    worst = ledger.spent(version)
    return VersionLine(
        version,
        account.versions[version],
        sum(charge.version == version for charge in account.charges),
        account.epsilon_of_charges(version),
        worst,
        _left(ceiling, worst),
    )


def _left(ceiling: float | None, spent: float) -> float | None:
    return None if ceiling is None else max(ceiling - spent, 0.0)
