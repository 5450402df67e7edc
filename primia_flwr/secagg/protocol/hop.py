"""One hop of a sealed relay: a model from the site that trained it to the next, past the server.

Before a cycle each site announces an X25519 key that its identity signed. What is sealed opens at
the one receiver, in the one cycle and position, and under the one experiment that it was sealed
for. With the model goes which sites are in it. Source: the system SNT of Phong and Phuong 2019,
https://doi.org/10.1109/TIFS.2019.2911169, with a key of its own for each hop.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import KEY_BYTES, KeyPair, bind, sign, verify
from primia_flwr.secagg.protocol.parties import Session
from primia_flwr.secagg.protocol.sealing import open_sealed, seal

_KEY, _HOP = "primia relay v1 key", "primia relay v1 hop"
_SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class HopKey:
    """A site's public key for one cycle: raw X25519 (32 bytes) and its signature (64 bytes)."""

    public: bytes
    signature: bytes

    @classmethod
    def signed(
        cls, pair: KeyPair, identity: Ed25519PrivateKey, *, run: str, cycle: int, site: str
    ) -> "HopKey":
        """Return the public key of a pair, signed by the site's identity for this cycle."""
        return cls(pair.public, sign(identity, _KEY, run, cycle, site, pair.public))

    def verify(self, session: Session, *, cycle: int, site: str) -> None:
        """Check that a site of the roster made this key for this cycle of this run.

        Raises
        ------
        ProtocolError
            If it did not, or the roster has no such site.
        """
        signed = (session.run, cycle, site, self.public)
        verify(session.identity(site), self.signature, _KEY, *signed)

    def to_bytes(self) -> bytes:
        """Return key and signature, 96 bytes."""
        return self.public + self.signature

    @classmethod
    def from_bytes(cls, raw: bytes) -> "HopKey":
        """Undo `to_bytes`; says nothing about the signature.

        Raises
        ------
        ProtocolError
            If `raw` has another length.
        """
        if len(raw) != KEY_BYTES + _SIGNATURE_BYTES:
            raise ProtocolError(
                f"a relay key of {len(raw)} bytes; expected {KEY_BYTES + _SIGNATURE_BYTES}"
            )
        return cls(raw[:KEY_BYTES], raw[KEY_BYTES:])


@dataclass(frozen=True)
class Hop:
    """Which hop it is.

    Parameters
    ----------
    session : Session
        Run and roster.
    terms : bytes
        Digest of the experiment and the code that the site works by.
    cycle, position : int
        The cycle, from 1, and how many sites had trained in it before the receiver.
    sender, receiver : str
        Names on the roster.
    """

    session: Session
    terms: bytes
    cycle: int
    position: int
    sender: str
    receiver: str

    def seal(self, pair: KeyPair, receiver: HopKey, model: bytes, members: Iterable[str]) -> bytes:
        """Return a model that only the receiver can read.

        It is 32 bytes longer, and a bit for each site of the roster. `pair`: the sender's, of this
        cycle. `receiver`: the receiver's, of this cycle; it is verified here. `model`: as it is.
        `members`: the sites that have trained it.

        Raises
        ------
        ProtocolError
            If the receiver's key is not its own for this cycle.
        """
        receiver.verify(self.session, cycle=self.cycle, site=self.receiver)
        return seal(
            pair.agree(receiver.public),
            self._bits(members) + model,
            sender=self.sender,
            receiver=self.receiver,
            associated=self._context(pair.public, receiver.public),
        )

    def open(self, pair: KeyPair, sender: HopKey, sealed: bytes) -> tuple[bytes, tuple[str, ...]]:
        """Return the model that was sealed for this hop, and who has trained it.

        `pair`: the receiver's, of this cycle. `sender`: the sender's, of this cycle; it is verified
        here. `sealed`: what `seal` returned.

        Raises
        ------
        ProtocolError
            If anything of it differs.
        """
        sender.verify(self.session, cycle=self.cycle, site=self.sender)
        raw = open_sealed(
            pair.agree(sender.public),
            sealed,
            sender=self.sender,
            receiver=self.receiver,
            associated=self._context(sender.public, pair.public),
        )
        size = len(self._bits(()))
        return raw[size:], self._names(raw[:size])

    def _context(self, sender: bytes, receiver: bytes) -> bytes:
        session = self.session
        where = (session.run, session.roster_digest, self.terms, self.cycle, self.position)
        return bind(_HOP, *where, sender, receiver)

    def _bits(self, members: Iterable[str]) -> bytes:
        places = {name: place for place, name in enumerate(sorted(self.session.identities))}
        bits = sum(1 << places[name] for name in set(members))
        return bits.to_bytes((len(places) + 7) // 8, "little")

    def _names(self, raw: bytes) -> tuple[str, ...]:
        bits = int.from_bytes(raw, "little")
        names = sorted(self.session.identities)
        return tuple(name for place, name in enumerate(names) if bits >> place & 1)
