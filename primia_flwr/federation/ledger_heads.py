"""Heads of the sites' privacy ledgers: what others remember, so that a site cannot fall behind.

A site signs the newest entry of its ledger with its identity. The coordinator keeps the newest
head of every site and sends all of them down with each round; the sites keep them too. A site
that is told of an own entry that its ledger does not have works on an old copy (a restored backup,
a cut-off end), and refuses. Nobody else can make a site refuse: its own signature is needed.
"""

import base64
import binascii
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primia_flwr.config.schema import Experiment
from primia_flwr.errors import DataError, ProtocolError
from primia_flwr.federation.checkpoint import replace_file
from primia_flwr.reading import parse_json, read_text, reading
from primia_flwr.secagg.keys import sign, verify
from primia_flwr.secagg.parties import Session

FILE = "ledger-heads.json"
MAX_CHARACTERS = 1 << 20
_PURPOSE = "primia privacy v1 ledger head"


@dataclass(frozen=True)
class LedgerHead:
    """The newest entry of a site's ledger: its number, its hash, and the site's signature."""

    site: str
    seq: int
    hash: str
    signature: str

    @classmethod
    def signed(cls, identity: Ed25519PrivateKey, *, site: str, seq: int, hash: str) -> "LedgerHead":
        """Return a head with the signature of the site's identity."""
        signature = sign(identity, _PURPOSE, site, seq, hash)
        return cls(site, seq, hash, base64.b64encode(signature).decode())

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
        verify(identity, signature, _PURPOSE, self.site, self.seq, self.hash)


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
        self._known: dict[str, LedgerHead] = {}
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
                _save(file, self.to_text())

    def newest(self, site: str) -> LedgerHead | None:
        """Return the newest head of a site; None where nobody remembers one."""
        return self._known.get(site)

    def to_text(self) -> str:
        """Return all of them as JSON, always the same for the same heads."""
        return json.dumps([asdict(self._known[name]) for name in sorted(self._known)])

    def _take(self, heads: Iterable[LedgerHead]) -> bool:
        """Take up what is newer and verifies; say whether anything was."""
        before = dict(self._known)
        for head in heads:
            known = self._known.get(head.site)
            if known is not None and known.seq >= head.seq:
                continue
            with contextlib.suppress(ProtocolError):
                head.verify(self._session)
                self._known[head.site] = head
        return self._known != before


def read_heads(text: object) -> list[LedgerHead]:
    """Read what `to_text` made, from a stranger.

    Raises
    ------
    ProtocolError
        If it is anything else.
    """
    with reading("a list of heads of privacy ledgers", error=ProtocolError, expected="one"):
        if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
            raise ValueError(f"no text of up to {MAX_CHARACTERS} characters")
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
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, (text + "\n").encode())
    except OSError as error:
        raise DataError(
            f"{file} cannot be written ({error.strerror}); expected a folder with free space: the "
            "heads of the privacy ledgers must be kept"
        ) from None


def _head(values: Mapping[str, object]) -> LedgerHead:
    head = LedgerHead(**values)  # type: ignore[arg-type]
    texts = (head.site, head.hash, head.signature)
    if type(head.seq) is not int or head.seq < 1 or not all(type(t) is str for t in texts):
        raise ValueError("an entry that is no head")
    return head
