"""Who takes part, and the least that each of them insists on.

Source: Bonawitz et al. 2017 (ePrint 2017/281), section 6.2, for the threshold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.primitives.keys import KEY_BYTES, digest
from primia_flwr.secagg.protocol.graph import least_threshold

LEAST_SURVIVORS = 3


@dataclass(frozen=True)
class Floor:
    """The least that a site insists on.

    Parameters
    ----------
    min_survivors : int
        Sites in any sum it takes part in: at least 3 and `max_colluding` + 2, because with
        fewer each honest site's value follows from the sum and the others' own.
    max_colluding : int
        Sites that may work together with the server, c.
    accept_two : bool
        The site accepts a sum over two, in which each learns the other's update. It does not
        make `max_colluding` + 2 any lower.

    Raises
    ------
    ConfigError
        If `min_survivors` is lower than that.
    """

    min_survivors: int = LEAST_SURVIVORS
    max_colluding: int = 0
    accept_two: bool = False

    def __post_init__(self) -> None:
        if self.max_colluding < 0:
            raise ConfigError(f"max_colluding={self.max_colluding}; expected 0 or more")
        least = max(2 if self.accept_two else LEAST_SURVIVORS, self.max_colluding + 2)
        if self.min_survivors < least:
            raise ConfigError(
                f"min_survivors={self.min_survivors}; expected at least {least}: with fewer, a "
                "site's update follows from the sum and what the others know"
            )

    def least_threshold(self, holders: int) -> int:
        """Return the least t > (n + c + 1) / 2 for n holders of shares of one secret.

        An honest client gives only one of another's two secrets, a colluding one both. So two
        lists give t shares of each only to a server with 2 t - n colluding clients, which is
        at least c + 2: one more than declared is not enough, whether n is odd or even. It is
        at most n where n is c + 2 or more.
        """
        return (holders + self.max_colluding + 1) // 2 + 1

    def sparse_threshold(self, clients: int, degree: int) -> int:
        """Return the least t on a sparse graph whose server keeps to the protocol.

        But for a probability of 2^-41 no client has t colluding neighbours, so that those do not
        rebuild a secret; one colluding client more than declared is counted. It is no majority:
        a server that lies is not what it is for.
        """
        return least_threshold(clients, self.max_colluding + 1, degree)


@dataclass(frozen=True)
class Session:
    """One run among the sites of a roster.

    Parameters
    ----------
    run : str
        The run's own name; a resumed run keeps it.
    identities : mapping of str to bytes
        Raw Ed25519 public key (32 bytes) of each site, from the roster that every site holds.
    """

    run: str
    identities: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if len(set(self.identities.values())) != len(self.identities):
            raise ConfigError(
                "two sites of the roster have the same identity key; expected one each"
            )
        for name, key in self.identities.items():
            if len(key) != KEY_BYTES:
                raise ConfigError(f"the identity key of {name!r} has {len(key)} bytes; expected 32")

    def identity(self, name: str) -> Ed25519PublicKey:
        """Return a site's public identity.

        Raises
        ------
        ProtocolError
            If the roster does not have the site.
        """
        if name not in self.identities:
            raise ProtocolError(
                f"site {name!r} is not on the roster; expected one of "
                f"{', '.join(sorted(self.identities))}"
            )
        return Ed25519PublicKey.from_public_bytes(self.identities[name])

    @cached_property
    def roster_digest(self) -> bytes:
        """SHA-256 of names and identity keys."""
        return roster_digest(self.identities)


@dataclass(frozen=True)
class Member:
    """One client: its name, its identity, the run it takes part in, and its floor."""

    name: str
    identity: Ed25519PrivateKey = field(repr=False)
    session: Session
    floor: Floor = Floor()

    def __post_init__(self) -> None:
        known = self.session.identities.get(self.name)
        if known != self.identity.public_key().public_bytes_raw():
            raise ConfigError(
                f"site {self.name!r} holds another identity key than the roster has for it; "
                "expected the key of its start-up kit"
            )


def roster_digest(identities: Mapping[str, bytes]) -> bytes:
    """Return the SHA-256 of sites' names and identity keys."""
    return digest("primia secagg v1 roster", *flat(identities))


def flat(entries: Mapping[str, bytes]) -> Iterable[str | bytes]:
    """Return names and values alternately, by sorted name."""
    for name in sorted(entries):
        yield name
        yield entries[name]
