"""Files of a federation: keys, rosters, kits, checkpoints, histories, ledger heads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from primia_flwr.errors import PrimiaError
from primia_flwr.flower.command import _last_json
from primia_flwr.flower.launcher import _read
from primia_flwr.messages.ledger_heads import LedgerHead, LedgerHeads
from primia_flwr.pipeline.verify_sums import largest_error, write_update
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.federation import Federation, Plan, provision
from primia_flwr.provisioning.federation_changes import FederationFolder
from primia_flwr.provisioning.identities import load_identity, roster_keys, simulated_keys
from primia_flwr.provisioning.nodes import _nodes_by_key, _pem
from primia_flwr.provisioning.own_identities import trust
from primia_flwr.provisioning.renewal import take_in_ca
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.runs.checkpoint import Checkpoint, load_latest, save_checkpoint
from primia_flwr.runs.history import EventTail, History, RoundRow, SiteRow, append_event
from primia_flwr.runs.metadata import read_json
from primia_flwr.secagg.protocol.parties import Session
from primia_flwr.site.members import check_members, members_digest
from primia_flwr.site.validity import _of_ca, read_certificate
from primia_flwr.storage.atomic import write_result
from tests.fuzz.loaders.target import Made, choice, put, target


def federation_in(folder: Path) -> Federation:
    """Return a small federation, as `primia provision` makes it."""
    return provision(Plan("fl", ["munich", "paris", "london"], "localhost", 9391), folder / "fl")


@target("roster")
def roster(folder: Path) -> Made:
    file = federation_in(folder).roster_file

    def load(raw: bytes) -> None:
        found = load_roster(put(file, raw))
        assert load_roster(put(file, found.to_yaml().encode())) == found
        assert len(roster_keys(file)) == len(found.sites)
        assert all(_pem(site.supernode_key) for site in found.sites)

    return Made(load, [file.read_bytes()])


@target("identity key")
def identity_key(folder: Path) -> Made:
    file = federation_in(folder).kits["munich"] / "identity.key"

    def load(raw: bytes) -> None:
        load_identity(put(file, raw))
        certs.public_line_of(file)

    return Made(load, [file.read_bytes()])


@target("certificate that a SuperLink shows")
def shown_certificate(folder: Path) -> Made:
    federation = federation_in(folder)
    ca = read_certificate(federation.files.ca)
    seeds = [federation.files.certificate.read_bytes()]
    return Made(lambda raw: _of_ca(raw.decode("utf-8", "replace"), ca), seeds)


@target("renewal of a federation")
def renewal(folder: Path) -> Made:
    """Any one file of a federation's folder garbled: nothing is renewed, or all of it."""
    place = federation_in(folder).folder
    revoked = place / "keys" / "revoked" / "rome.pub"
    revoked.parent.mkdir()
    revoked.write_bytes((place / "keys" / "paris.pub").read_bytes())
    files = [place / "ca.key", place / "superlink.crt", place / "ca.crt", revoked]
    honest = {file: file.read_bytes() for file in files}

    def load(raw: bytes) -> None:
        for file, content in honest.items():
            put(file, content)
        index, rest = choice(raw, len(files))
        put(files[index], rest)
        files[0].chmod(0o600)
        opened = FederationFolder(place)
        opened.revoked_keys()
        opened.renew(days=9)

    return Made(load, [bytes([at]) + honest[file] for at, file in enumerate(files)])


@target("renewed ca.crt")
def renewed_ca(folder: Path) -> Made:
    kit = federation_in(folder).kits["munich"]
    content = (kit / "ca.crt").read_bytes()

    def load(raw: bytes) -> None:
        put(kit / "ca.crt", content)
        take_in_ca(put(folder / "new.crt", raw), kit / "ca.crt", kit / "roster.yaml")

    return Made(load, [content])


@target("public line")
def public_line(folder: Path) -> Made:
    federation = federation_in(folder)
    file, before = folder / "paris.pub", federation.roster_file.read_bytes()

    def load(raw: bytes) -> None:
        put(federation.roster_file, before)
        trust(federation.roster_file, put(file, raw), own="munich")
        load_roster(federation.roster_file)

    key = certs.make_identity_key()
    seeds = [certs.openssh_public(key, "paris-identity").encode()]
    return Made(load, seeds, odd=(b"csh-ed25519 25519 ",))


@target("nodes of a SuperLink")
def nodes(folder: Path) -> Made:
    line = load_roster(federation_in(folder).roster_file).sites[0].supernode_key

    class Client:
        def ListNodes(self, request: object) -> object:
            return type("Answer", (), {"nodes_info": [self.node]})

    def load(raw: bytes) -> None:
        client = Client()
        client.node = type("Node", (), {"status": "online", "public_key": raw})  # type: ignore[attr-defined]
        _nodes_by_key(client)  # type: ignore[arg-type]

    return Made(load, [_pem(line)])


@target("identities of a simulation")
def simulated(folder: Path) -> Made:
    text = json.dumps({"a": "00" * 32, "b": "11" * 32}, indent=1)

    def load(raw: bytes) -> None:
        put(folder / "identities.json", raw)
        assert all(len(key) == 32 for key in simulated_keys(folder).values())

    return Made(load, [text.encode()])


@target("ledger heads")
def ledger_heads(folder: Path) -> Made:
    keys = {name: certs.make_identity_key() for name in ("munich", "paris", "rome")}
    publics = {name: key.public_key().public_bytes_raw() for name, key in keys.items()}
    session, file = Session("run", publics), folder / "ledger-heads.json"
    heads = LedgerHeads(session, [file])
    heads.learn(LedgerHead.signed(keys[n], site=n, answers=3, hash="ab" * 32) for n in publics)
    seeds = [file.read_bytes()]

    def load(raw: bytes) -> None:
        known = LedgerHeads(session, [put(file, raw)])
        assert {head.number for name in publics if (head := known.newest(name))} <= {3}

    return Made(load, seeds)


def _sealed(raw: bytes) -> bytes:
    """Make the checksums of a checkpoint's state fit."""
    sealed = json.loads(raw)
    text = json.dumps(sealed["content"], sort_keys=True)
    sealed["content_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(sealed).encode()


def _checkpoint(folder: Path) -> Path:
    """Write the checkpoint of a run of one round; return its folder."""
    history = History(folder, ["mcc"])
    history.rounds.append(RoundRow(1))
    history.sites.append(SiteRow(1, "munich", "used"))
    arrays = {"global": {"w": np.zeros((2, 2), np.float32)}, "best": {}}
    state = {"history": history.to_dict(), "best": {"round": 1}}
    return save_checkpoint(folder / "checkpoints", Checkpoint("abc", 1, arrays, state))


def _resume(folder: Path) -> None:
    model = {"w": np.zeros((2, 2), np.float32)}
    found = load_latest(folder / "checkpoints", config_hash="abc", model=model)
    assert found is not None
    if "history" in found.state:
        restored = History(folder, ["mcc"]).restore(found.state["history"])
        restored.write()


@target("checkpoint state")
def checkpoint_state(folder: Path) -> Made:
    file = _checkpoint(folder) / "state.json"

    def load(raw: bytes) -> None:
        put(file, raw)
        _resume(folder)

    return Made(load, [file.read_bytes()], _sealed)


@target("checkpoint arrays")
def checkpoint_arrays(folder: Path) -> Made:
    path = _checkpoint(folder)
    file, state = path / "arrays.safetensors", path / "state.json"
    sealed = json.loads(state.read_bytes())

    def load(raw: bytes) -> None:
        put(file, raw)
        sealed["arrays_sha256"] = hashlib.sha256(raw).hexdigest()
        put(state, json.dumps(sealed).encode())
        _resume(folder)

    return Made(load, [file.read_bytes()])


@target("run facts")
def facts(folder: Path) -> Made:
    file = folder / "run.json"
    write_result(file, {"name": "demo", "synthetic": True, "seconds": 1.5})

    def load(raw: bytes) -> None:
        assert isinstance(read_json(put(file, raw)), dict)

    return Made(load, [file.read_bytes()])


@target("outcome of a run")
def outcome(folder: Path) -> Made:
    file = folder / "result.json"
    write_result(file, {"status": "finished", "best_round": 1})
    return Made(lambda raw: _read(put(file, raw)), [file.read_bytes()])


@target("events")
def events(folder: Path) -> Made:
    file = folder / "events.jsonl"
    append_event(folder, "round_started", round=1)
    append_event(folder, "round_finished", round=1, loss=0.5, mcc=None)
    seeds = [file.read_bytes()]

    def load(raw: bytes) -> None:
        file.unlink(missing_ok=True)
        tail = EventTail(file)
        put(file, raw)
        assert all(isinstance(event["event"], str) for event in tail.new())

    return Made(load, seeds)


@target("answer of flwr")
def flower_answer(folder: Path) -> Made:
    text = 'Loading project configuration...\n{"success": true, "run-id": 5}\n'
    return Made(lambda raw: _last_json(raw.decode("utf-8", "replace")), [text.encode()])


@target("audited update")
def audited(folder: Path) -> Made:
    site, mean = folder / "sites" / "munich", np.ones(4, np.float32)
    site.mkdir(parents=True)
    write_update(site, mean, 2.0)
    file = site / "audited-update.npz"

    def load(raw: bytes) -> None:
        put(file, raw)
        largest_error(folder, ["munich"], mean)

    return Made(load, [file.read_bytes()])


@target("kit")
def kit(folder: Path) -> Made:
    """Any one file of a kit garbled: the site is refused, or is ready."""
    from primia_flwr.site.check import check_certificate, check_key
    from primia_flwr.site.policy import load_policy

    federation = federation_in(folder)
    place = federation.kits["munich"]
    members = members_digest({one.name: one.identity_key for one in federation.roster.sites})
    names = ["ca.crt", "supernode.key", "identity.key", "roster.yaml", "site.yaml"]
    honest = {name: (place / name).read_bytes() for name in names}

    def load(raw: bytes) -> None:
        for name, content in honest.items():
            put(place / name, content)
        index, rest = choice(raw, len(names))
        put(place / names[index], rest)
        policy = load_policy(place / "site.yaml")
        found = [check_key(policy, key) for key in ("supernode_key", "identity_key")]
        found.append(check_certificate(policy))
        roster_keys(policy.path(policy.roster))
        check_members(members, policy)
        load_identity(policy.path(policy.identity_key))
        if not all(one.ok for one in found):
            raise PrimiaError("not ready")

    return Made(load, [bytes([at]) + honest[name] for at, name in enumerate(names)])
