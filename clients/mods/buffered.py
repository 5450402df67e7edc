"""Buffered rounds at a site: it holds its update, says that it is ready, and gives it into one sum.

No array of an update, and nothing that was measured, leaves the site but in the masked vectors of
a buffer, of which the site has checked who is in it and what each update counts.
"""

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from clients.leaving import BUFFER, leaving
from clients.reply import reply_to
from clients.site.held_update import Held, given_once, held_by
from clients.site.identity import SecureSite, open_member
from clients.site.secagg_steps import Step, keep_at_home, loaded, next_keys, round_base
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import secure as wire
from primia_flwr.messages.buffered import Buffer
from primia_flwr.messages.keys import ARRAYS, CONFIG
from primia_flwr.processes.cores import own_cores
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.wire import MaskRequest, decode


def hold_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Have the site train; keep the answer, and say no more than that it is ready.

    The same model asked for again, with the same words, is not trained again.

    Raises
    ------
    PrimiaError
        If the site refuses, or cannot keep it.
    """
    site = open_member(context)
    if strange := sorted(set(message.content) - {ARRAYS, CONFIG}):
        raise ProtocolError(f"a message with {strange[0]!r:.60}; expected {ARRAYS} and {CONFIG}")
    step = Step.of(MessageType.TRAIN, message.content, search=False)
    if step.number is None:
        raise ProtocolError(f"a message without {ARRAYS}; expected the model of a round")
    step.check(site)
    if not _holds(site, message.content, step):
        held_by(site).forget()
        _train(site, message, call_next(message, context), step)
    return reply_to(message, site.name, {})


def _holds(site: SecureSite, content: RecordDict, step: Step) -> bool:
    """Whether the site has what it is asked for already."""
    from clients.mods.secagg_vectors import told_to_train

    known = held_by(site).load()
    if known is None or (known.number, known.base) != (step.number, step.base):
        return False
    layout = wire.report_layout(site.experiment, known.entries, known.outputs)
    return known.told == told_to_train(site, content, layout)


def _train(site: SecureSite, message: Message, plain: Message, step: Step) -> None:
    """Keep what the training gave: before anybody is told that it is there."""
    from clients.mods.secagg_vectors import held_update

    keep_at_home(site, message, plain)
    held = held_update(site, message, plain)
    with site.exclusive():
        step.record(site)
        held_by(site).save(held)


def answer_buffer(message: Message, context: Context) -> Message:
    """Answer `query.buffer`: the update that the site holds, masked, as a part of one sum.

    Raises
    ------
    PrimiaError
        If the site refuses; then nothing is sent.
    """
    site = open_member(context)
    if not leaving(site.experiment).holds:
        raise ProtocolError(f"{BUFFER} in a run whose sites hold nothing; expected none")
    asked = message.content.config_records.get(wire.SECAGG, ConfigRecord())
    request = decode(wire.part(asked, wire.MASK) or b"", MaskRequest)
    content = RecordDict({k: v for k, v in message.content.items() if k != wire.SECAGG})
    buffer = Buffer.read(content, site.experiment.aggregation)
    with site.exclusive():
        held = _checked(site, buffer, request)
        vectors = _masked(site, content, buffer, held, request)
        keys = next_keys(site, asked)
    parts = {wire.SECAGG: ConfigRecord(dict(keys)), wire.MASKED: wire.pack_vectors(vectors)}
    return reply_to(message, site.name, parts)


def _checked(site: SecureSite, buffer: Buffer, request: MaskRequest) -> Held:
    """Return what the site holds, where the buffer is one that it may be in."""
    held = held_by(site).load()
    if held is None:
        raise ProtocolError(
            f"an update of {site.name} is asked for, and it holds none; expected a model first"
        )
    buffer.check_own(
        site.name,
        held.waiting,
        roster=site.member.session.identities,
        least=site.member.floor.min_survivors,
        mixed=site.allow_mixed_rounds,
    )
    if sorted(request.members) != buffer.sites:
        raise ProtocolError(
            f"masks with {', '.join(request.members):.200} for a buffer of "
            f"{', '.join(buffer.sites):.200}; expected the same sites"
        )
    return held


def _masked(
    site: SecureSite, content: RecordDict, buffer: Buffer, held: Held, request: MaskRequest
) -> list[Vector]:
    """Return the masked vectors; before, remember what they are given into."""
    from clients.mods.secagg_vectors import held_vectors

    given, told = given_once(site), buffer.digest
    site.vault.rounds.record(BUFFER, buffer.number, b"")
    layout, vectors = held_vectors(site, held, buffer.weight_of(site.name))
    run = site.member.session.run
    with loaded(site, request.instance) as instance:
        alone = not instance.needs_own_shares
        given.mask(request.instance, held.base, told, bound=alone)
        instance.mask(
            request,
            vectors,
            transcript=wire.transcript_hash(told, content, layout, BUFFER, terms=site.terms),
            bases=[held.base, round_base(run, MessageType.TRAIN, held.number)],
            terms=site.terms,
            threads=own_cores(),
        )
    return vectors
