"""Identities that the sites make themselves, so that nobody else ever held the private half.

`primia provision` puts an identity into each kit. A site that makes its own hands its public
line to the others, and each puts it into its own copy of the roster after comparing the
fingerprint by phone. The coordinator's copy is one of them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519

from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import (
    fingerprint,
    make_identity_key,
    openssh_public,
    private_bytes,
    public_key,
)
from primia_flwr.provisioning.roster import Roster, RosterSite, load_roster
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import read_text, reading

_COMMENT = "-identity"
_LONGEST_LINE = 4096


@dataclass(frozen=True)
class Adopted:
    """An identity that has come into a roster in place of another; fingerprints."""

    site: str
    before: str
    now: str


def renew(key_file: Path, roster_file: Path, site: str) -> tuple[Adopted, Path]:
    """Make a new identity, put it into this site's own roster, and write the public line.

    The old private key is overwritten. Not during a run: the site would be refused.

    Returns
    -------
    Adopted, Path
        And the file `<site>.pub` beside the key, for the other sites and the coordinator.

    Raises
    ------
    FederationError
        If the roster cannot be read or does not have the site; nothing is changed then.
    """
    roster = load_roster(roster_file)
    key = make_identity_key()
    line = openssh_public(key, f"{site}{_COMMENT}").strip()
    changed, adopted = _with_identity(roster, site, line)
    public_file = key_file.with_name(f"{site}.pub")
    write_atomic(key_file, private_bytes(key, openssh=True), mode=PRIVATE)
    write_atomic(roster_file, changed.to_yaml())
    write_atomic(public_file, f"{line}\n")
    return adopted, public_file


def trust(roster_file: Path, public_file: Path, *, own: str = "") -> Adopted:
    """Put another site's identity into a roster.

    `roster_file`: the copy to change. `public_file`: what the other site's `renew` wrote. `own`:
    the site whose copy it is: nobody else may bring an identity for it.

    Raises
    ------
    FederationError
        If a file cannot be read, is no identity of a site on the roster, is the identity of
        another one, or would replace the own; nothing is changed then.
    """
    site, line = _read_line(public_file)
    if site == own:
        raise FederationError(
            f"{public_file} is an identity for {site}, this site itself; expected another site's; "
            "make your own with `primia site identity new=true`"
        )
    changed, adopted = _with_identity(load_roster(roster_file), site, line)
    write_atomic(roster_file, changed.to_yaml())
    return adopted


def _with_identity(roster: Roster, site: str, line: str) -> tuple[Roster, Adopted]:
    known = {member.name: member for member in roster.sites}
    if site not in known:
        raise FederationError(
            f"the roster has no site {site!r}; expected one of {', '.join(known)}"
        )
    now = fingerprint(line)
    for name, member in known.items():
        if name != site and member.identity_fingerprint == now:
            raise FederationError(
                f"the identity {now} for {site} is that of {name} already; expected one of its own"
            )
    member = replace(known[site], identity_key=line, identity_fingerprint=now)
    sites: tuple[RosterSite, ...] = tuple(
        member if one.name == site else one for one in roster.sites
    )
    adopted = Adopted(site, known[site].identity_fingerprint, now)
    return replace(roster, sites=sites), adopted


def _read_line(file: Path) -> tuple[str, str]:
    """Return the site and the line of a public file: `ssh-ed25519 <key> <site>-identity`."""
    expected = f"one line `ssh-ed25519 <key> <site>{_COMMENT}`, as `primia site identity` writes it"
    if not file.exists():
        raise FederationError(
            f"trust={file} is not there; expected the public file of another site; its hospital "
            "writes it with `primia site identity new=true` and sends it to you"
        )
    with reading(file, error=FederationError, expected=expected):
        line = read_text(file, at_most=_LONGEST_LINE).strip()
        if not isinstance(public_key(line), ed25519.Ed25519PublicKey):
            raise ValueError("no Ed25519 key")
        kind, key, comment = line.split(" ")
    if not comment.endswith(_COMMENT):
        raise FederationError(f"{file} is for {comment!r:.80}; expected {expected}")
    return comment.removesuffix(_COMMENT), f"{kind} {key} {comment}"
