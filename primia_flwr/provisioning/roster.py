"""The roster: which sites belong to a federation, and which SuperLink node is which site.

A SuperLink knows a node by an id and a public key. The roster names each site's key, so that
ids can be given names; a node whose key is not in the roster is nobody, and is not asked.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from primia_flwr.config.plain_yaml import MAX_ROSTER_CHARACTERS, load_mapping
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import fingerprint, public_key
from primia_flwr.provisioning.kits import check_name
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading

_GONE = "unregistered"
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


@dataclass(frozen=True)
class NodeStatus:
    """What the SuperLink says about a site's node; `node_id` is 0 if it is not registered."""

    site: str
    node_id: int
    status: str
    since: str


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
    return roster


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


def register_sites(superlink: str, root_certificates: Path, roster: Roster) -> dict[str, int]:
    """Register the keys of all sites that are not registered yet; return site: node id.

    Raises
    ------
    FederationError
        If the SuperLink cannot be reached or refuses a key.
    """
    with _control(superlink, root_certificates) as client:
        known = _nodes_by_key(client)
        for site in roster.sites:
            if _pem(site.supernode_key) not in known:
                client.RegisterNode(
                    RegisterNodeRequest(public_key=_pem(site.supernode_key), name=site.name)
                )
    return registered_nodes(superlink, root_certificates, roster)


def registered_nodes(superlink: str, root_certificates: Path, roster: Roster) -> dict[str, int]:
    """Return the node id of each site of the roster whose key is registered.

    Raises
    ------
    FederationError
        If the SuperLink cannot be reached.
    """
    states = node_states(superlink, root_certificates, roster)
    return {state.site: state.node_id for state in states if state.node_id}


def node_states(superlink: str, root_certificates: Path, roster: Roster) -> list[NodeStatus]:
    """Return what the SuperLink knows of each site: online, offline, registered or missing.

    Raises
    ------
    FederationError
        If the SuperLink cannot be reached.
    """
    with _control(superlink, root_certificates) as client:
        known = _nodes_by_key(client)
    states = []
    for site in roster.sites:
        node = known.get(_pem(site.supernode_key))
        if node is None:
            states.append(NodeStatus(site.name, 0, "missing", ""))
        else:
            since = node.last_activated_at if node.status == "online" else node.last_deactivated_at
            states.append(NodeStatus(site.name, node.node_id, node.status, since))
    return states


@contextmanager
def _control(superlink: str, root_certificates: Path) -> Iterator[ControlHttpClient]:
    try:
        client = ControlHttpClient.from_server_address(
            server_address=superlink,
            insecure=False,
            root_certificates=root_certificates.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
    except (OSError, ValueError) as error:
        raise FederationError(
            f"root_certificates={root_certificates} cannot be used ({error}); expected the "
            "federation's ca.crt"
        ) from None
    try:
        yield client
    except httpx.HTTPStatusError as error:
        raise FederationError(
            f"superlink={superlink} answered {error.response.status_code}; expected a SuperLink "
            "of Flower 1.41 or 1.42 that lists its nodes"
        ) from None
    except (httpx.HTTPError, FlowerError, OSError) as error:
        raise FederationError(
            f"superlink={superlink} cannot be reached ({error}); expected a running SuperLink "
            f"with a certificate signed by {root_certificates}"
        ) from None
    finally:
        client.close()


def _nodes_by_key(client: ControlHttpClient) -> dict[bytes, Any]:
    """Return the nodes that are there by their keys; one whose key is none is nobody."""
    nodes = client.ListNodes(ListNodesRequest()).nodes_info
    known = {}
    for node in nodes:
        if node.status == _GONE:
            continue
        with suppress(FederationError), reading("a node's key", error=FederationError, expected=""):
            key = load_pem_public_key(node.public_key)
            known[key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)] = node
    return known


def _pem(openssh_line: str) -> bytes:
    return public_key(openssh_line).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _plain(roster: Roster) -> dict[str, Any]:
    content = asdict(roster)
    content["sites"] = list(content["sites"])
    return content
