"""The sites' identities in a secure run: of the kits in a deployment, drawn in a simulation."""

import json
import secrets
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.certificates import (
    load_private,
    make_identity_key,
    private_bytes,
    public_key,
)
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import parse_json, read_text, reading

_ROSTER = "identities.json"
_KEY_BYTES = 32


def prepare_secure(experiment: Experiment, run_dir: Path) -> AggregationConfig:
    """Return the aggregation with the run's own name; simulated sites get identities."""
    aggregation = experiment.aggregation
    simulated = experiment.deployment.kind == "simulation"
    if simulated and not (aggregation.named or experiment.model.keeps_layers):
        return aggregation
    if simulated and aggregation.named:
        _draw(experiment.federation.sites, run_dir)
    return replace(aggregation, run=aggregation.run or secrets.token_hex(16))


def identity_keys(experiment: Experiment) -> dict[str, bytes]:
    """Return each site's raw Ed25519 public key, as the coordinator knows it.

    Raises
    ------
    FederationError
        If the roster cannot be read.
    """
    if experiment.deployment.kind == "simulation":
        return simulated_keys(Path(experiment.output_dir))
    return roster_keys(Path(experiment.deployment.roster))


def roster_keys(file: Path) -> dict[str, bytes]:
    """Return each site's raw Ed25519 public key by a provisioned roster.

    Raises
    ------
    FederationError
        If it cannot be read, or an identity is no Ed25519 key.
    """
    return {site.name: _raw(site.identity_key, site.name) for site in load_roster(file).sites}


def simulated_keys(run_dir: Path) -> dict[str, bytes]:
    """Return the public keys that a simulation's launcher drew.

    Raises
    ------
    FederationError
        If their file cannot be read.
    """
    file = run_dir / _ROSTER
    expected = "what the launcher wrote; start a new run"
    with reading(file, error=FederationError, expected=expected):
        content = parse_json(read_text(file))
        return {name: _key_bytes(key) for name, key in content.items()}


def load_identity(file: Path) -> Ed25519PrivateKey:
    """Read a site's private identity key.

    Raises
    ------
    FederationError
        If the file cannot be read, holds another kind of key, or others can read it.
    """
    key = load_private(file)
    if not isinstance(key, Ed25519PrivateKey):
        raise FederationError(f"{file} is no Ed25519 key; expected the site's identity.key")
    return key


def _draw(sites: list[str], run_dir: Path) -> None:
    """Draw an identity for each simulated site that has none; those of before a resume stay."""
    public = {}
    for site in sites:
        file = run_dir / "sites" / site / "identity.key"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(file, private_bytes(make_identity_key(), openssh=True), mode=PRIVATE)
        public[site] = load_identity(file).public_key().public_bytes_raw().hex()
    write_atomic(run_dir / _ROSTER, json.dumps(public, indent=1) + "\n")


def _key_bytes(text: str) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"a key has {len(raw)} bytes; expected {_KEY_BYTES}")
    return raw


def _raw(line: str, site: str) -> bytes:
    key = public_key(line)
    if not isinstance(key, Ed25519PublicKey):
        raise FederationError(
            f"the identity of {site} on the roster is no Ed25519 key; expected the line of "
            f"{site}'s own `primia site identity`"
        )
    return key.public_bytes_raw()
