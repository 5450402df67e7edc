"""A changed roster comes to a site: what is new in it, and what the hospital must have compared.

The coordinator sends the roster and could have made a site up. So an identity comes in only if
its fingerprint is given, as its own hospital reads it over the phone, and a site goes out only by
name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from primia_flwr.errors import FederationError
from primia_flwr.provisioning.roster import Roster, load_roster
from primia_flwr.storage.atomic import write_atomic, writing


@dataclass(frozen=True)
class RosterChange:
    """What another roster would change.

    `came`: identity's fingerprint by site, of sites that are new here or have another identity;
    `left`: sites that it does not have any more.
    """

    roster: Roster
    came: dict[str, str]
    left: tuple[str, ...]

    @property
    def anything(self) -> bool:
        """Whether identities differ at all."""
        return bool(self.came or self.left)


def _of_one_federation(new_file: Path, roster_file: Path) -> tuple[Roster, Roster]:
    new, old = load_roster(new_file), load_roster(roster_file)
    for key in ("federation", "ca_fingerprint"):
        found, expected = getattr(new, key), getattr(old, key)
        if found != expected:
            raise FederationError(
                f"{new_file} has {key}={found!r:.80}; expected {expected!r:.80}, as in "
                f"{roster_file}; take in a renewed ca.crt first (primia site ca), or ask the "
                "coordinator for the roster again"
            )
    return new, old


def compare(new_file: Path, roster_file: Path, *, own: str) -> RosterChange:
    """Compare a roster that came with a site's own.

    Raises
    ------
    FederationError
        If one cannot be read, they are of two federations, or the new one has another identity
        for the site itself, or none.
    """
    new, old = _of_one_federation(new_file, roster_file)
    before = {site.name: site.identity_fingerprint for site in old.sites}
    now = {site.name: site.identity_fingerprint for site in new.sites}
    if now.get(own) != before.get(own):
        raise FederationError(
            f"{new_file} has {now.get(own, 'no identity')} for {own}, this site itself; expected "
            f"{before.get(own)}; give the coordinator your own public file, or ask for the roster "
            "again"
        )
    came = {site: mark for site, mark in now.items() if before.get(site) != mark}
    return RosterChange(new, came, tuple(sorted(before.keys() - now.keys())))


def take_in(
    change: RosterChange, roster_file: Path, *, compared: Sequence[str], left: Sequence[str]
) -> None:
    """Put the new roster in the place of a site's own.

    `change`: what `compare` found. `roster_file`: the site's own. `compared`: fingerprints that
    were compared by phone: of all identities that come. `left`: names of all sites that go.

    Raises
    ------
    FederationError
        If one is missing or is not of this change; nothing is changed then.
    """
    _check("compared", compared, list(change.came.values()))
    _check("left", left, list(change.left))
    with writing(roster_file, error=FederationError, remedy="expected a writable folder"):
        write_atomic(roster_file, change.roster.to_yaml())


def _check(key: str, given: Sequence[str], needed: Sequence[str]) -> None:
    if sorted(given) != sorted(needed):
        raise FederationError(
            f"{key}=[{','.join(given)}]; expected [{','.join(needed)}] and no others, each "
            "compared by phone with that hospital itself; look with primia site roster"
        )
