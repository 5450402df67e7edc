"""Heads of the sites' privacy ledgers: what others remember, so that a site cannot fall behind.

A site signs with its identity how many answers its ledger has paid for, and the hash of the newest
one's entry. That says nothing of its data: a number of entries would also count how often the data
changed. The coordinator keeps the newest head of every site and sends all of them down with each
round; the sites keep them too. A site that is told of an own answer that its ledger does not have
works on an old copy (a restored backup, a cut-off end), and refuses. Nobody else can make a site
refuse: its own signature is needed.

Heads that versions before 2026-11-29 signed have the number of the entry instead. Who has kept such
a head keeps it, and a site still compares its own with its ledger; they are not sent any more.
"""

import base64
import binascii
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import DataError, ProtocolError
from primia_flwr.primitives.keys import sign, verify
from primia_flwr.secagg.protocol.parties import Session
from primia_flwr.storage.atomic import write_atomic, writing
from primia_flwr.storage.reading import parse_json, read_text, reading

FILE = "ledger-heads.json"
_MAX_CHARACTERS = 1 << 20
_ANSWERS, _ENTRIES = "answers", "seq"  # what a head counts
_PURPOSES = {_ANSWERS: "primia privacy v2 ledger head", _ENTRIES: "primia privacy v1 ledger head"}


@dataclass(frozen=True)
class LedgerHead:
    """How many answers a site's ledger has paid for, the hash of the newest, the site's signature.

    `counts`: `answers`; `seq` in old heads, whose number is that of the entry.
    """

    site: str
    number: int
    hash: str
    signature: str
    counts: str = _ANSWERS

    @classmethod
    def signed(
        cls, identity: Ed25519PrivateKey, *, site: str, answers: int, hash: str
    ) -> "LedgerHead":
        """Return a head with the signature of the site's identity."""
        signature = sign(identity, _PURPOSES[_ANSWERS], site, answers, hash)
        return cls(site, answers, hash, base64.b64encode(signature).decode())

    def to_dict(self) -> dict[str, str | int]:
        """Return plain values, the number under the name of what it counts."""
        return {
            "site": self.site,
            self.counts: self.number,
            "hash": self.hash,
            "signature": self.signature,
        }

    def verify(self, session: Session) -> None:
        """Check that the site itself signed this.

        Raises
        ------
        ProtocolError
            If it did not, or is not on the roster.
        """
        try:
            signature = base64.b64decode(self.signature, validate=True)
        except (ValueError, binascii.Error):
            raise ProtocolError(f"a ledger head of {self.site!r} has no readable signature") from (
                None
            )
        identity = session.identity(self.site)
        verify(identity, signature, _PURPOSES[self.counts], self.site, self.number, self.hash)


class LedgerHeads:
    """The newest known head of every site, in memory and in files.

    Parameters
    ----------
    session : Session
        Whose identities sign; what does not verify is passed over.
    files : sequence of Path
        All are read, and all written whenever something new is learnt.

    Raises
    ------
    DataError
        If a file cannot be read: what it knew must not be forgotten in silence.
    """

    def __init__(self, session: Session, files: Sequence[Path] = ()) -> None:
        self._session, self._files = session, files
        self._known: dict[tuple[str, str], LedgerHead] = {}
        for file in files:
            self._take(_load(file))

    @classmethod
    def of(
        cls, experiment: Experiment, session: Session, folder: Path | None
    ) -> "LedgerHeads | None":
        """Return the coordinator's: of the run, and of the federation; None without privacy."""
        if not experiment.privacy.enabled:
            return None
        folders = [folder] if folder else []
        if experiment.deployment.kind == "deployment":
            folders.append(Path(experiment.deployment.roster).parent)
        return cls(session, [place / FILE for place in folders])

    def learn(self, heads: Iterable[LedgerHead]) -> None:
        """Take up the heads that are newer than the known ones, and write them down.

        Raises
        ------
        DataError
            If they cannot be written.
        """
        if self._take(heads):
            for file in self._files:
                _save(file, self._to_text(_ANSWERS, _ENTRIES))

    def newest(self, site: str) -> LedgerHead | None:
        """Return the newest head of a site; None where nobody remembers one."""
        return self._known.get((site, _ANSWERS))

    def newest_old(self, site: str) -> LedgerHead | None:
        """Return the newest one that counts entries; None where nobody remembers one."""
        return self._known.get((site, _ENTRIES))

    def to_text(self) -> str:
        """Return all of them as JSON, always the same for the same heads; old ones stay here."""
        return self._to_text(_ANSWERS)

    def _to_text(self, *counts: str) -> str:
        known = [self._known[key] for key in sorted(self._known)]
        return json.dumps([head.to_dict() for head in known if head.counts in counts])

    def _take(self, heads: Iterable[LedgerHead]) -> bool:
        """Take up what is newer and verifies; say whether anything was."""
        before = dict(self._known)
        for head in heads:
            known = self._known.get((head.site, head.counts))
            if known is not None and known.number >= head.number:
                continue
            with contextlib.suppress(ProtocolError):
                head.verify(self._session)
                self._known[head.site, head.counts] = head
        return self._known != before


def read_heads(text: object) -> list[LedgerHead]:
    """Read what `to_text` made, from a stranger.

    Raises
    ------
    ProtocolError
        If it is anything else.
    """
    with reading("a list of heads of privacy ledgers", error=ProtocolError, expected="one"):
        if not isinstance(text, str) or len(text) > _MAX_CHARACTERS:
            raise ValueError(f"no text of up to {_MAX_CHARACTERS} characters")
        found = parse_json(text)
        if not isinstance(found, list):
            raise ValueError("no list")
        return [_head(values) for values in found]


def _load(file: Path) -> list[LedgerHead]:
    if not file.exists():
        return []
    expected = "what primia wrote; put it back from a backup, or delete it and be told by others"
    with reading(file, error=DataError, expected=expected):
        text = read_text(file)
        try:
            return read_heads(text)
        except ProtocolError as error:
            raise ValueError(str(error)) from None


def _save(file: Path, text: str) -> None:
    remedy = "expected a folder with free space: the heads of the privacy ledgers must be kept"
    with writing(file, error=DataError, remedy=remedy):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, text + "\n")


def _head(values: Mapping[str, object]) -> LedgerHead:
    counts = _ENTRIES if _ENTRIES in values else _ANSWERS
    if not isinstance(values, Mapping) or values.keys() != {"site", counts, "hash", "signature"}:
        raise ValueError("an entry that is no head")
    number, texts = values[counts], [values[key] for key in ("site", "hash", "signature")]
    if type(number) is not int or number < 1 or not all(type(text) is str for text in texts):
        raise ValueError("an entry that is no head")
    site, digest, signature = map(str, texts)
    return LedgerHead(site, number, digest, signature, counts)
