"""The roster: which sites belong to a federation, and the public keys of each.

A node of the SuperLink whose key is not in the roster is nobody, and is not asked.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from primia_flwr.config.plain_yaml import MAX_ROSTER_CHARACTERS, load_mapping
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import fingerprint
from primia_flwr.provisioning.kits import check_name
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading

_EXPECTED = "the roster.yaml that `primia provision` wrote; ask the coordinator for it again"


@dataclass(frozen=True)
class RosterSite:
    """One site: the public keys of its SuperNode and of its identity, with fingerprints."""

    name: str
    supernode_key: str
    supernode_fingerprint: str
    identity_key: str
    identity_fingerprint: str


@dataclass(frozen=True)
class Roster:
    """The members of a federation and the fingerprint of its CA."""

    federation: str
    superlink: str
    ca_fingerprint: str
    sites: tuple[RosterSite, ...]

    def names(self) -> list[str]:
        """Return the names of the sites, in the roster's order."""
        return [site.name for site in self.sites]

    def to_yaml(self) -> str:
        """Return the roster as YAML."""
        return yaml.safe_dump(_plain(self), sort_keys=False, width=200)


def load_roster(file: Path) -> Roster:
    """Read a roster and check that each fingerprint belongs to its key.

    Raises
    ------
    FederationError
        If the file is missing, is no roster, names a site twice, or a fingerprint does not fit.
    """
    with reading(file, error=FederationError, expected=_EXPECTED):
        content = load_mapping(read_text(file), what="it", at_most=MAX_ROSTER_CHARACTERS)
        sites = tuple(RosterSite(**site) for site in content.pop("sites"))
        roster = Roster(**content, sites=sites)
        _check_texts(roster)
    _check_fingerprints(file, roster)
    return roster


def _check_fingerprints(file: Path, roster: Roster) -> None:
    for site in roster.sites:
        for kind in ("supernode", "identity"):
            stated = getattr(site, f"{kind}_fingerprint")
            with reading(file, error=FederationError, expected=_EXPECTED):
                actual = fingerprint(getattr(site, f"{kind}_key"))
            if stated != actual:
                raise FederationError(
                    f"{file}: {kind}_fingerprint of {site.name} is "
                    f"{printable(stated, limit=80)}; its key has {actual}; ask the "
                    "coordinator for the roster again"
                )


def _check_texts(roster: Roster) -> None:
    texts = [roster.federation, roster.superlink, roster.ca_fingerprint]
    texts += [text for site in roster.sites for text in asdict(site).values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("it has an entry that is no text")
    names = [name.lower() for name in roster.names()]
    for name in names:
        check_name("a site's name", name)
    if not names or len(set(names)) != len(names):
        raise ValueError("it names no site, or one twice")


def _plain(roster: Roster) -> dict[str, Any]:
    content = asdict(roster)
    content["sites"] = list(content["sites"])
    return content
