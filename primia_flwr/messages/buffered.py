"""A buffer: whose updates one secure sum is over, of which rounds' models, and what each counts.

The coordinator states it to all sites of the sum alike, and the masks are bound to it. Each site
checks what it can: that it is in it once, with the model that it was sent and the weight that
follows from the rounds.

Source: Nguyen et al. 2022, FedBuff, https://arxiv.org/abs/2106.06639, for the buffer and the
weights; So et al. 2021, https://arxiv.org/abs/2110.02177, for secure sums over one.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, MessageType, RecordDict

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.errors import ProtocolError
from primia_flwr.messages.keys import CONFIG, ROUND
from primia_flwr.primitives.keys import digest

QUERY = f"{MessageType.QUERY}.buffer"
_SITES, _SINCE, _TOLD, _WEIGHTS = "buffer-sites", "buffer-since", "buffer-told", "buffer-weights"
_KEYS = {ROUND: int, _SITES: str, _SINCE: int, _TOLD: str, _WEIGHTS: float}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LEAST_WEIGHT = 1e-100  # of which no word is left; a weight of 0 has no meaning


def discount(staleness: int, power: float) -> float:
    """Return what an update counts that is so many rounds old: (1 + s)^-a, above 0."""
    return max(float((1 + staleness) ** -power), _LEAST_WEIGHT)


@dataclass(frozen=True)
class Waiting:
    """An update that a site holds: the round of its model, and the digest of all it was told then.

    `told`: 64 hex digits, see `messages.secure.transcript_hash`.
    """

    since: int
    told: str


@dataclass(frozen=True)
class Buffer:
    """The updates of one sum.

    Parameters
    ----------
    number : int
        The round that they make.
    parts : mapping of str to Waiting
        The updates by their sites' names.
    power : float
        a of the discount.
    """

    number: int
    parts: Mapping[str, Waiting]
    power: float

    @property
    def sites(self) -> list[str]:
        """The sites' names, sorted."""
        return sorted(self.parts)

    def weight_of(self, site: str) -> float:
        """Return what a site's update counts, in (0, 1]."""
        return discount(self.number - self.parts[site].since, self.power)

    def content(self) -> RecordDict:
        """Return what the sites are told."""
        parts = [self.parts[site] for site in self.sites]
        config: dict[str, Any] = {
            ROUND: self.number,
            _SITES: self.sites,
            _SINCE: [part.since for part in parts],
            _TOLD: [part.told for part in parts],
            _WEIGHTS: [self.weight_of(site) for site in self.sites],
        }
        return RecordDict({CONFIG: ConfigRecord(config)})

    @property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        parts: list[str | bytes | int] = [self.number, repr(self.power)]
        for site in self.sites:
            parts += [site, self.parts[site].since, self.parts[site].told]
        return digest("primia buffer v1", *parts)

    @classmethod
    def read(cls, content: RecordDict, aggregation: AggregationConfig) -> "Buffer":
        """Read what a site was told, and refuse what no coordinator that keeps to the rules says.

        Raises
        ------
        ProtocolError
            If it is not what `content` gives, names a site twice, has a weight that is not the
            discount, an update from the future or too old, or two models of one round.
        """
        number, sites, since, told, weights = _values(content)
        if sites != sorted(set(sites)):
            raise _refused(f"the sites {', '.join(sites):.200}", "each once, by name")
        parts = {s: Waiting(a, t) for s, a, t in zip(sites, since, told, strict=True)}
        buffer = cls(number, parts, aggregation.staleness_power)
        for site, weight in zip(sites, weights, strict=True):
            buffer._check(site, weight, aggregation.max_staleness)
        models = {(part.since, part.told) for part in parts.values()}
        if len(models) != len({round_ for round_, _ in models}):
            raise _refused("two models of one round", "one, which all were sent")
        return buffer

    def _check(self, site: str, weight: float, most: int) -> None:
        part = self.parts[site]
        if not (1 <= part.since <= self.number <= part.since + most):
            raise _refused(
                f"an update of round {part.since} in round {self.number}",
                f"one that is 0 to max_staleness={most} rounds old",
            )
        if not _SHA256.fullmatch(part.told):
            raise _refused(f"{part.told!r:.80}", "a SHA-256, 64 hex digits")
        if weight != self.weight_of(site):
            raise _refused(
                f"a weight of {weight!r:.40} for {site}",
                f"(1 + {self.number - part.since})^-{self.power:g} = {self.weight_of(site)!r}",
            )

    def check_own(
        self, site: str, held: Waiting, *, roster: Collection[str], least: int, mixed: bool
    ) -> None:
        """Refuse a buffer that a site cannot be in, or would be seen in.

        Parameters
        ----------
        site : str
            Whose check it is.
        held : Waiting
            The update that the site holds.
        roster : collection of str
            All sites of the run.
        least : int
            Sites among which it insists to be hidden.
        mixed : bool
            The others may have been sent models of other rounds, of which it knows nothing.

        Raises
        ------
        ProtocolError
            Naming what was expected.
        """
        if strangers := sorted(set(self.sites) - set(roster)):
            raise _refused(f"the site {strangers[0]:.80}", "sites of the roster")
        if len(self.parts) < least:
            raise _refused(f"{len(self.parts)} updates", f"at least {least}, as {site} insists")
        if self.parts.get(site) != held:
            raise _refused(
                f"{site} with another update than the one of round {held.since} that it holds",
                "that one, and the model that it was sent",
            )
        others = sorted(name for name, part in self.parts.items() if part != held)
        if others and not mixed:
            raise _refused(
                f"updates of {', '.join(others)} of another model than {site} was sent",
                "one model for all, or allow_mixed_rounds: true in this site's policy: of others "
                "it does not know what they are, and their weights can be told apart",
            )


def _values(content: RecordDict) -> tuple[int, list[str], list[int], list[str], list[float]]:
    config = content.config_records.get(CONFIG, ConfigRecord())
    if set(content) != {CONFIG} or set(config) != set(_KEYS):
        raise _refused(f"{', '.join(sorted({*content, *config})):.200}", ", ".join(_KEYS))
    number, *lists = (config[key] for key in _KEYS)
    if type(number) is not int or number < 1:
        raise _refused(f"{ROUND}={number!r:.60}", "the round's number, from 1")
    kinds = list(_KEYS.values())[1:]
    for values, kind in zip(lists, kinds, strict=True):
        if not isinstance(values, list) or any(type(value) is not kind for value in values):
            raise _refused(f"{values!r:.80}", f"a list of {kind.__name__}")
    if len({len(values) for values in lists}) != 1:  # type: ignore[arg-type]
        raise _refused("lists of different lengths", "an entry of each for each site")
    return (number, *lists)  # type: ignore[return-value]


def _refused(found: str, expected: str) -> ProtocolError:
    return ProtocolError(f"a buffer with {found}; expected {expected}")
