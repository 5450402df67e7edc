"""The client's half of secure aggregation: a mod around the answers, and the setup's query.

What a handler would have sent in the clear is laid out as vectors, masked, and
sent so. A site that was told to aggregate securely never sends anything else.
"""

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from clients.leaving import BUFFER, PROTOCOL, leaving
from clients.mods.buffered import hold_mod
from clients.reply import reply_to
from clients.site.held_update import forget_given, given_once
from clients.site.identity import SecureSite, open_member
from clients.site.node import experiment_of
from clients.site.secagg_steps import Step, keep_at_home, loaded, next_keys
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import secure as wire
from primia_flwr.messages.keys import ARRAYS, LEDGER
from primia_flwr.processes.cores import own_cores
from primia_flwr.secagg.payload.layout import Layout
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.wire import (
    MaskRequest,
    SharesRequest,
    SignRequest,
    UnmaskRequest,
    decode,
    encode,
)
from primia_flwr.secagg.state.journal import Journal


def answer_protocol(message: Message, context: Context) -> Message:
    """Answer `query.secagg`: whichever parts of the protocol the message holds, in order.

    Raises
    ------
    PrimiaError
        If the site refuses one of them; then nothing is sent.
    """
    site = open_member(context)
    asked = message.content.config_records.get(wire.SECAGG, ConfigRecord())
    parts: dict[str, bytes] = {}
    with site.exclusive() as journal:
        if raw := wire.part(asked, wire.SIGN):
            parts[wire.SIGN] = _signed(site, decode(raw, SignRequest), journal)
        if raw := wire.part(asked, wire.UNMASK):
            parts[wire.UNMASK] = _released(site, decode(raw, UnmaskRequest), journal)
        parts |= next_keys(site, asked)
        if raw := wire.part(asked, wire.SHARES):
            shares = decode(raw, SharesRequest)
            with loaded(site, shares.instance) as instance:
                parts[wire.SHARES] = encode(instance.share(shares))
    return reply_to(message, site.name, {wire.SECAGG: ConfigRecord(dict(parts))})


def _signed(site: SecureSite, asked: SignRequest, journal: Journal) -> bytes:
    """Sign a list of survivors."""
    given_once(site).check_survivors(asked.instance, asked.survivors)
    with loaded(site, asked.instance) as instance:
        return encode(instance.sign(asked, journal, terms=site.terms))


def _released(site: SecureSite, asked: UnmaskRequest, journal: Journal) -> bytes:
    """Give shares; what the site held for this sum counts as given before they leave."""
    given_once(site).release(asked.instance, asked.survivors)
    with loaded(site, asked.instance) as instance:
        return encode(instance.release(asked, journal, terms=site.terms))


def secagg_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message; where the run aggregates securely, mask what would have been sent.

    Raises
    ------
    ProtocolError
        If the message and the run do not agree on whether it does.
    PrimiaError
        If the site refuses; then nothing is sent.
    """
    kind = message.metadata.message_type
    if kind in (PROTOCOL, BUFFER):  # a step of the protocol itself
        return call_next(message, context)
    experiment = experiment_of(context)
    if leaving(experiment).holds and kind == MessageType.TRAIN:
        return hold_mod(message, context, call_next)
    masked = leaving(experiment).masked
    if masked != (wire.SECAGG in message.content.config_records):
        raise ProtocolError(
            f"aggregation.name={experiment.aggregation.name}, but the message asks for the "
            "opposite; expected both alike: nothing leaves this site in the clear by mistake"
        )
    return _masked(message, context, call_next) if masked else call_next(message, context)


def _masked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Have the message answered; mask the answer, and send the keys that were asked for."""
    site = open_member(context)
    asked = message.content.config_records[wire.SECAGG]
    request = decode(wire.part(asked, wire.MASK) or b"", MaskRequest)
    site.vault.load(request.instance)  # before the long work, to refuse early
    content = RecordDict({k: v for k, v in message.content.items() if k != wire.SECAGG})
    search = experiment_of(context).search.enabled
    step = Step.of(message.metadata.message_type, content, search=search)
    step.check(site)
    forget_given(site, step.number)
    plain = call_next(message, context)
    layout, vectors = _encode(site, message, plain)
    transcript = wire.transcript_hash(step.base, content, layout, step.kind, terms=site.terms)
    with site.exclusive():
        step.record(site)
        with loaded(site, request.instance) as instance:
            instance.mask(
                request,
                vectors,
                transcript=transcript,
                bases=step.bases(site, plain),
                terms=site.terms,
                threads=own_cores(),
            )
        keys = next_keys(site, asked)
    parts = {
        wire.SECAGG: ConfigRecord(dict(keys)),
        wire.MASKED: wire.pack_vectors(vectors),
        LEDGER: plain.content.get(LEDGER),  # says what privacy was spent, and is signed
    }
    return reply_to(message, site.name, parts)


def _encode(site: SecureSite, message: Message, plain: Message) -> tuple[Layout, list[Vector]]:
    from clients.mods.secagg_vectors import report_vectors, statistics_vectors

    keep_at_home(site, message, plain)
    if ARRAYS not in message.content.array_records:
        return statistics_vectors(site, plain)
    return report_vectors(site, message, plain)
