"""Which node of a SuperLink is which site: its keys are registered, its nodes asked for.

A SuperLink knows a node by an id and a public key; the roster gives ids their names.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from primia_flwr.errors import FederationError
from primia_flwr.processes.proxies import through_proxy
from primia_flwr.provisioning.certificates import public_key
from primia_flwr.provisioning.roster import Roster
from primia_flwr.site.validity import at_coordinator, check_endings
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import reading, reason_of

_ERRNO = re.compile(r"\[Errno -?\d+\] |_ssl\.c:\d+: ")
_GONE = "unregistered"
FINISHED = "finished"


@dataclass(frozen=True)
class NodeStatus:
    """What the SuperLink says about a site's node; `node_id` is 0 if it is not registered."""

    site: str
    node_id: int
    status: str
    since: str


def register_sites(
    superlink: str, root_certificates: Path, roster: Roster, *, revoked: Sequence[str] = ()
) -> dict[str, int]:
    """Register the keys of all sites that are not registered yet; return site: node id.

    `revoked`: public lines of keys that the SuperLink shall take no more.

    Raises
    ------
    FederationError
        If the SuperLink cannot be reached or refuses a key.
    """
    gone = {_pem(line) for line in revoked}
    with _control(superlink, root_certificates, roster.federation) as client:
        known = _nodes_by_key(client)
        for key in gone & known.keys():
            client.UnregisterNode(UnregisterNodeRequest(node_id=known[key].node_id))
        for site in roster.sites:
            if _pem(site.supernode_key) not in known.keys() | gone:
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
    with _control(superlink, root_certificates, roster.federation) as client:
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


def runs_at(superlink: str, root_certificates: Path, federation: str) -> dict[str, str]:
    """Return the status of each run at a SuperLink by number, e.g. `finished:completed`.

    Raises
    ------
    FederationError
        If the SuperLink cannot be reached.
    """
    with _control(superlink, root_certificates, federation) as client:
        runs = client.ListRuns(ListRunsRequest()).run_dict
    states = {number: run.status for number, run in sorted(runs.items())}
    return {
        str(number): printable(f"{state.status}:{state.sub_status}".rstrip(":"), limit=60)
        for number, state in states.items()
    }


def stop_run(superlink: str, root_certificates: Path, federation: str, run_id: int) -> None:
    """Stop a run at a SuperLink, so that no site goes on.

    Raises
    ------
    FederationError
        If the SuperLink cannot be reached, or the run does not go on there.
    """
    status = runs_at(superlink, root_certificates, federation).get(str(run_id), "unknown")
    if status.startswith((FINISHED, "unknown")):
        raise FederationError(
            f"run {run_id} is {status} at superlink={superlink}; expected a run that goes on; "
            f"primia runs list name={federation} shows which do"
        )
    with _control(superlink, root_certificates, federation) as client:
        client.StopRun(StopRunRequest(run_id=run_id))


@contextmanager
def _control(
    superlink: str, root_certificates: Path, federation: str
) -> Iterator[ControlHttpClient]:
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
        check_endings(superlink, root_certificates, at_coordinator(federation))
        why = _ERRNO.sub("", reason_of(error))
        raise FederationError(
            f"superlink={superlink} cannot be reached{through_proxy(superlink)} ({why}); expected "
            f"a running SuperLink with a certificate signed by {root_certificates}"
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
