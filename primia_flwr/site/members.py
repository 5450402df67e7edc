"""Whether the members of a federation are the same here as at the coordinator.

In secure aggregation a site believes what is signed by the identities of its own roster. Where the
coordinator has another roster no sum can come about, and the reason would stay in the site's log.
So the coordinator says which roster it has, and a site that has another one refuses with a
sentence. Nothing is taken over from it.
"""

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from primia_flwr.config.plain_yaml import MAX_ROSTER_CHARACTERS, load_mapping
from primia_flwr.errors import FederationError, PolicyRefusal
from primia_flwr.secagg.protocol.parties import roster_digest
from primia_flwr.site.policy import SitePolicy
from primia_flwr.storage.reading import read_text, reading

MEMBERS = "deployment.members"


def members_digest(identities: Mapping[str, str]) -> str:
    """Return the SHA-256 of a roster: of names and identities in OpenSSH's one-line form.

    Raises
    ------
    FederationError
        If an identity is no Ed25519 key.
    """
    keys = {}
    for name, line in identities.items():
        what = f"the identity of {name}"
        with reading(what, error=FederationError, expected="an Ed25519 key on the roster"):
            key = load_ssh_public_key(line.encode())
            if not isinstance(key, Ed25519PublicKey):
                raise TypeError("it is a key of another kind")
            keys[name] = key.public_bytes_raw()
    return roster_digest(keys).hex()


def check_members(named: Any, policy: SitePolicy) -> None:
    """Refuse a secure run of a coordinator whose roster is another one than this site's.

    Parameters
    ----------
    named : object
        What the run has as `deployment.members`; nothing: a coordinator that does not say.
    policy : SitePolicy
        The site's.

    Raises
    ------
    PolicyRefusal
        If the rosters differ, or this site's cannot be read.
    """
    if named == "":
        return
    try:
        own = _own(policy)
    except FederationError:
        raise PolicyRefusal(
            f"site {policy.site} refuses: its roster cannot be read; its staff finds the reason "
            "with `primia site check`"
        ) from None
    if named != own:
        raise PolicyRefusal(
            f"site {policy.site} refuses: the coordinator's roster is not the one here; expected "
            "the same at all; it sends its roster.yaml, and the hospital takes it in with "
            "`primia site roster new=roster.yaml`"
        )


def _own(policy: SitePolicy) -> str:
    file = policy.path(policy.roster)
    with reading(file, error=FederationError, expected="the roster of the federation"):
        content = load_mapping(read_text(file), what="it", at_most=MAX_ROSTER_CHARACTERS)
        return members_digest({site["name"]: site["identity_key"] for site in content["sites"]})
