"""The client's half of a relay: steps in proportion, and models sealed for the next site.

A site of a sealed relay opens the model that comes, trains it, seals its own for the next site, and
sends nothing else. What was sealed for a site that did not answer it seals again for another one.
"""

from dataclasses import replace
from typing import Any

import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from clients.mods.lineage import refuse_lineage, signed
from clients.reply import reply_to
from clients.site.baton import Baton, Held
from clients.site.identity import SecureSite, open_member
from clients.site.node import experiment_of
from primia_flwr.config.load import config_hash
from primia_flwr.errors import DivergenceError, PolicyRefusal, ProtocolError
from primia_flwr.messages import relay as wire
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.keys import ARRAYS, LEDGER
from primia_flwr.primitives.keys import KeyPair
from primia_flwr.secagg.protocol.hop import Hop, HopKey
from primia_flwr.secagg.protocol.wire import KeysRequest, RelayHop, decode


def relay_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message of a relay; hand those of other runs through.

    Raises
    ------
    ProtocolError
        If message and run do not agree on whether models are sealed, or one does not open.
    """
    experiment, kind = experiment_of(context), message.metadata.message_type
    if kind == wire.QUERY:
        return call_next(message, context)
    if not experiment.aggregation.relayed:
        refuse_lineage(message)
    sealed = experiment.aggregation.sealed
    if sealed != (wire.RELAY in message.content.config_records):
        raise ProtocolError(
            f"aggregation.sealed={str(sealed).lower()}, but the message asks for the opposite; "
            "expected both alike: no model leaves this site in the clear by mistake"
        )
    if sealed:
        return _hop(message, context, call_next)
    if kind != MessageType.TRAIN or not experiment.aggregation.relayed:
        return call_next(message, context)
    site = open_member(context)
    if experiment.strategy.in_proportion:
        from clients.mods.proportion import in_proportion

        context = in_proportion(message, context)
    return signed(site, message, context, call_next)


def answer_relay(message: Message, context: Context) -> Message:
    """Answer `query.relay`: this site's key of a cycle, its model sealed anew, or the last model.

    Raises
    ------
    PrimiaError
        If the site refuses; then nothing is sent.
    """
    site, asked = open_member(context), message.content
    keys, records = dict[str, bytes](), dict[str, ArrayRecord]()
    with site.exclusive():
        if raw := wire.relay_part(asked, wire.KEYS):
            cycle = decode(raw, KeysRequest).instance
            keys[wire.KEYS] = _key(site, _baton(site).begin(cycle), cycle).to_bytes()
        if raw := wire.relay_part(asked, wire.HOP):
            hop = decode(raw, RelayHop)
            if hop.receiver == site.name:
                _keep_last(site, hop, message, context)
            elif hop.receiver:
                records[wire.SEALED] = _sealed_again(site, hop)
            else:
                records[ARRAYS] = held(_revealed(site, hop).arrays)
    return reply_to(message, site.name, {wire.RELAY: ConfigRecord(dict(keys)), **records})


def _hop(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Open the model that comes, have it trained, keep it, and seal it for the next site."""
    site, content = open_member(context), message.content
    hop = decode(wire.relay_part(content, wire.HOP) or b"", RelayHop)
    with site.exclusive():
        pair = _baton(site).pair(hop.cycle)
    onward = replace(hop, position=hop.position + 1, sender=site.name)
    _check_receiver(site, onward)  # before the long work
    clear = content.array_records.get(ARRAYS, ArrayRecord())
    before = _arrived(site, hop, pair, wire.sealed_bytes(content), context)
    others = {key: value for key, value in content.items() if key not in (wire.RELAY, wire.SEALED)}
    arrays = held({**values_of(clear), **before.arrays}) if hop.sender else clear
    message.content = RecordDict({**others, ARRAYS: arrays})
    reply = signed(site, message, context, call_next)
    trained = reply.content.array_records.get(ARRAYS)
    if trained is None:
        raise DivergenceError("this site has trained nothing that it could hand on")
    members = tuple(sorted({*before.members, site.name}))
    kept = Held(hop.cycle, members, values_of(trained), config_hash(site.experiment))
    with site.exclusive():
        _baton(site).keep(kept)
        sealed = _seal(site, onward, pair, kept) if hop.receiver else None
    parts = {wire.RELAY: ConfigRecord({}), wire.SEALED: sealed}
    public = {name: reply.content.config_records.get(name) for name in (LEDGER, wire.LINEAGE)}
    return reply_to(message, site.name, {**parts, **public})


def _arrived(
    site: SecureSite, hop: RelayHop, pair: KeyPair, sealed: bytes, context: Context
) -> Held:
    """Return the model that this site shall train; without arrays where it came in the clear."""
    if not hop.sender:
        if hop.cycle > 1:
            raise ProtocolError(
                f"a model in the clear in cycle {hop.cycle}; expected one that a site has sealed"
            )
        return Held(hop.cycle, (), {})
    if hop.sender == site.name:  # it trained last in the cycle before
        return _held(site, hop)
    raw, members = _at(site, hop, hop.sender, site.name).open(
        pair, _key_of(hop, hop.sender), sealed
    )
    return Held(hop.cycle, members, wire.model_of(raw, _like(context)))


def _like(context: Context) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of the names and shapes that a site sends back, whatever is in them."""
    from clients.site.opened import open_site
    from primia_flwr.messages.records import to_arrays
    from primia_flwr.models.empty import empty_model
    from primia_flwr.models.frozen_arrays import frozen_of, without

    site = open_site(context)
    cfg = site.experiment
    model = empty_model(cfg.model, outputs=len(site.data.train.classes), channels=cfg.data.channels)
    return without(values_of(to_arrays(model.state_dict())), frozen_of(cfg.model, model))


def _sealed_again(site: SecureSite, hop: RelayHop) -> ArrayRecord:
    return _seal(site, hop, _baton(site).pair(hop.cycle), _held(site, hop))


def _seal(site: SecureSite, hop: RelayHop, pair: KeyPair, kept: Held) -> ArrayRecord:
    """Seal a model for the receiver of a hop."""
    _check_receiver(site, hop)
    where, receiver = _at(site, hop, site.name, hop.receiver), _key_of(hop, hop.receiver)
    model = wire.model_bytes(kept.arrays)
    return wire.sealed_record(where.seal(pair, receiver, model, kept.members))


def _check_receiver(site: SecureSite, hop: RelayHop) -> None:
    """Refuse to seal for this site itself, as another, or for a key that is not the receiver's."""
    if not hop.receiver:
        return
    if hop.sender != site.name or hop.receiver == site.name:
        raise ProtocolError(
            f"a model of {hop.sender!r:.40} for {hop.receiver!r:.40}; expected one of this site "
            "for another"
        )
    _key_of(hop, hop.receiver).verify(site.member.session, cycle=hop.cycle, site=hop.receiver)


def _revealed(site: SecureSite, hop: RelayHop) -> Held:
    """Return the last model, where the run ends with it and it is not this site's alone."""
    federation, reveal = site.experiment.federation, site.experiment.aggregation.reveal
    if reveal != "end" or hop.cycle != federation.rounds:
        raise PolicyRefusal(
            f"the model of cycle {hop.cycle} in the clear with aggregation.reveal={reveal} and "
            f"federation.rounds={federation.rounds}; expected the last one, with reveal=end"
        )
    kept = _held(site, hop)
    if kept.cycle != hop.cycle or len(kept.members) < federation.min_sites:
        raise PolicyRefusal(
            f"the model of {len(kept.members)} sites in the clear; expected one that at least "
            f"federation.min_sites={federation.min_sites} have trained, in cycle {hop.cycle}"
        )
    return kept


def _keep_last(site: SecureSite, hop: RelayHop, message: Message, context: Context) -> None:
    """Save the last model, which the coordinator never gets, in this site's own folder."""
    aggregation, rounds = site.experiment.aggregation, site.experiment.federation.rounds
    if not aggregation.withheld or hop.cycle != rounds:
        raise ProtocolError(
            f"a model to keep in cycle {hop.cycle} of {rounds} with aggregation.reveal="
            f"{aggregation.reveal}; expected the last one, with reveal=never"
        )
    from clients.site.last_model import save_last_model

    pair = _baton(site).pair(hop.cycle)
    kept = _arrived(site, hop, pair, wire.sealed_bytes(message.content), context)
    clear = message.content.array_records.get(ARRAYS, ArrayRecord())
    save_last_model(context, {**values_of(clear), **kept.arrays}, hop.cycle)


def _held(site: SecureSite, hop: RelayHop) -> Held:
    kept = _baton(site).held()
    if kept.cycle not in (hop.cycle, hop.cycle - 1):
        raise ProtocolError(
            f"the model of cycle {kept.cycle} is asked for in cycle {hop.cycle}; expected that one "
            "or the one after it"
        )
    if kept.experiment != config_hash(site.experiment):
        raise PolicyRefusal(
            f"the model of cycle {kept.cycle} is of this run with other settings; expected the "
            "same, federation.rounds too: with more rounds the last model would be given out twice"
        )
    return kept


def _at(site: SecureSite, hop: RelayHop, sender: str, receiver: str) -> Hop:
    session = site.member.session
    return Hop(session, site.terms, hop.cycle, hop.position, sender, receiver)


def _key_of(hop: RelayHop, name: str) -> HopKey:
    return HopKey.from_bytes(hop.keys.get(name, b""))


def _key(site: SecureSite, pair: KeyPair, cycle: int) -> HopKey:
    member = site.member
    return HopKey.signed(pair, member.identity, run=member.session.run, cycle=cycle, site=site.name)


def _baton(site: SecureSite) -> Baton:
    return Baton(site.folder / f"relay-{site.member.session.run}")
