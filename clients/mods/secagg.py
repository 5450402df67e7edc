"""The client's half of secure aggregation: a mod around the answers, and the setup's query.

What a handler would have sent in the clear is laid out as vectors, masked, and
sent so. A site that was told to aggregate securely never sends anything else.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from clients.leaving import PROTOCOL, leaving
from clients.reply import reply_to
from clients.site.identity import SecureSite, open_member
from clients.site.node import experiment_of
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import secure as wire
from primia_flwr.messages.keys import ARRAYS, CONFIG, LEDGER, METRICS, RESULT, ROUND, TRIAL
from primia_flwr.primitives.keys import digest
from primia_flwr.processes.cores import own_cores
from primia_flwr.secagg.payload.layout import Layout
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.client import ClientInstance
from primia_flwr.secagg.protocol.wire import (
    KeysRequest,
    MaskRequest,
    SharesRequest,
    SignRequest,
    UnmaskRequest,
    decode,
    encode,
)
from primia_flwr.storage.journal import append_line


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
            sign = decode(raw, SignRequest)
            with _instance(site, sign.instance) as instance:
                parts[wire.SIGN] = encode(instance.sign(sign, journal, terms=site.terms))
        if raw := wire.part(asked, wire.UNMASK):
            unmask = decode(raw, UnmaskRequest)
            with _instance(site, unmask.instance) as instance:
                parts[wire.UNMASK] = encode(instance.release(unmask, journal, terms=site.terms))
        parts |= _keys(site, asked)
        if raw := wire.part(asked, wire.SHARES):
            shares = decode(raw, SharesRequest)
            with _instance(site, shares.instance) as instance:
                parts[wire.SHARES] = encode(instance.share(shares))
    return reply_to(message, site.name, {wire.SECAGG: ConfigRecord(dict(parts))})


def secagg_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message; where the run aggregates securely, mask what would have been sent.

    Raises
    ------
    ProtocolError
        If the message and the run do not agree on whether it does.
    PrimiaError
        If the site refuses; then nothing is sent.
    """
    if message.metadata.message_type == PROTOCOL:  # a step of the protocol itself
        return call_next(message, context)
    experiment = experiment_of(context)
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
    step = _Step.of(message.metadata.message_type, content, search=search)
    step.check(site)
    plain = call_next(message, context)
    layout, vectors = _encode(site, message, plain)
    transcript = wire.transcript_hash(step.base, content, layout, step.kind, terms=site.terms)
    with site.exclusive():
        step.record(site)
        with _instance(site, request.instance) as instance:
            instance.mask(
                request,
                vectors,
                transcript=transcript,
                bases=step.bases(site, plain),
                terms=site.terms,
                threads=own_cores(),
            )
        keys = _keys(site, asked)
    parts = {
        wire.SECAGG: ConfigRecord(dict(keys)),
        wire.MASKED: wire.pack_vectors(vectors),
        LEDGER: plain.content.get(LEDGER),  # says what privacy was spent, and is signed
    }
    return reply_to(message, site.name, parts)


@contextmanager
def _instance(site: SecureSite, number: int) -> Iterator[ClientInstance]:
    """Load an instance for one step and keep what became of it, a refusal included."""
    vault = site.vault
    instance = vault.load(number)
    try:
        yield instance
    finally:
        vault.save(instance)


def _keys(site: SecureSite, asked: ConfigRecord) -> dict[str, bytes]:
    """Begin the next instance where the message asks for it."""
    raw = wire.part(asked, wire.KEYS)
    if raw is None:
        return {}
    instance = site.vault.begin(decode(raw, KeysRequest).instance)
    return {wire.KEYS: encode(instance.begin())}


@dataclass(frozen=True)
class _Step:
    """What a message asks a sum of: the kind, the model, the round and, in a search, which.

    `number`: of the round; None for statistics, which have no model.
    """

    kind: str
    base: bytes
    series: str
    number: int | None

    @classmethod
    def of(cls, kind: str, content: RecordDict, *, search: bool) -> "_Step":
        """Read it from a message.

        Raises
        ------
        ProtocolError
            If the message has a model and no number.
        """
        base = wire.model_digest(content.array_records.get(ARRAYS, ArrayRecord()))
        if ARRAYS not in content.array_records:
            return cls(kind, base, kind, None)
        config = content.config_records.get(CONFIG, ConfigRecord())
        number = config.get(ROUND)
        if type(number) is not int or number < 0:
            raise ProtocolError(f"{ROUND}={number!r:.60}; expected the round's number")
        series = f"{kind} of configuration {config.get(TRIAL)!r:.20}" if search else kind
        if RESULT in config:  # perhaps of an earlier round than the last that was validated
            series = f"{kind} of the result"
        return cls(kind, base, series, number)

    def check(self, site: SecureSite) -> None:
        """Refuse a round that the site has left behind."""
        if self.number is not None:
            site.vault.rounds.check(self.series, self.number, self.base)

    def record(self, site: SecureSite) -> None:
        """Remember the round before anything of it leaves."""
        if self.number is not None:
            site.vault.rounds.record(self.series, self.number, self.base)

    def bases(self, site: SecureSite, plain: Message) -> list[bytes]:
        """Return what the vectors start from: the model and the round.

        Statistics start from the roster and the data, whatever the run is called.
        """
        if self.number is None:
            data = json.dumps(dict(plain.content.metric_records[METRICS]), sort_keys=True)
            return [digest("primia secagg v2 statistics", site.roster, data)]
        run = site.member.session.run
        return [self.base, digest("primia secagg v1 round", run, self.kind, self.number)]


def _encode(site: SecureSite, message: Message, plain: Message) -> tuple[Layout, list[Vector]]:
    from clients.mods.secagg_vectors import report_vectors, statistics_vectors

    _keep_at_home(site, message, plain)
    if ARRAYS not in message.content.array_records:
        return statistics_vectors(site, plain)
    return report_vectors(site, message, plain)


def _keep_at_home(site: SecureSite, message: Message, plain: Message) -> None:
    """Write the site's own measurements into its own log; nobody else sees them."""
    metrics = plain.content.metric_records.get(METRICS, MetricRecord())
    path = site.vault.folder / "own-measurements.jsonl"
    number = message.content.config_records[CONFIG].get(ROUND, 0)
    line = {"message": message.metadata.message_type, "round": number, **dict(metrics)}
    append_line(path, json.dumps(line).encode())
