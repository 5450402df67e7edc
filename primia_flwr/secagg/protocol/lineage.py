"""From which model another came in a relay: each training signed by the site that did it.

A site that is asked for the first time gets a model that others have trained. By the signatures it
sees that it came from first weights that it knows, through sites of the roster and nobody else.
"""

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import sign, verify
from primia_flwr.secagg.protocol.parties import Session

_LINK = "primia relay v1 link"
_DIGEST, _WHOLE = 32, 32 + 32 + 64


def link(identity: Ed25519PrivateKey, *, run: str, site: str, before: bytes, after: bytes) -> bytes:
    """Return a site's word that it made one model of another: two digests and its signature.

    `before`, `after`: SHA-256 of the models, 32 bytes each; 128 bytes in all.
    """
    return before + after + sign(identity, _LINK, run, site, before, after)


def ancestors(links: Mapping[str, bytes], model: bytes, session: Session) -> list[bytes]:
    """Return the digests of the models that a model came from, the nearest first.

    Parameters
    ----------
    links : mapping of str to bytes
        What sites signed, by a number that rises, a blank and the site's name.
    model : bytes
        SHA-256 of the model.
    session : Session
        Run and roster.

    Raises
    ------
    ProtocolError
        If a link that leads to the model is not signed by its site for this run.
    """
    found, current = list[bytes](), model
    for name in sorted(links, reverse=True):
        raw, site = links[name], name.partition(" ")[2]
        if len(raw) != _WHOLE:
            raise ProtocolError(f"a link of {len(raw)} bytes; expected {_WHOLE}")
        before, after = raw[:_DIGEST], raw[_DIGEST : 2 * _DIGEST]
        if after != current:
            continue
        signature = raw[2 * _DIGEST :]
        verify(session.identity(site), signature, _LINK, session.run, site, before, after)
        found.append(before)
        current = before
    return found
