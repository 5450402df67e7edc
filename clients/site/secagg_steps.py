"""What the steps of secure aggregation at a site have in common, whatever is added up."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from clients.site.identity import SecureSite
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import secure as wire
from primia_flwr.messages.keys import ARRAYS, CONFIG, METRICS, RESULT, ROUND, TRIAL
from primia_flwr.primitives.keys import digest
from primia_flwr.secagg.protocol.client import ClientInstance
from primia_flwr.secagg.protocol.wire import KeysRequest, decode, encode
from primia_flwr.storage.journal import append_line


@contextmanager
def loaded(site: SecureSite, number: int) -> Iterator[ClientInstance]:
    """Load an instance for one step and keep what became of it, a refusal included."""
    vault = site.vault
    instance = vault.load(number)
    try:
        yield instance
    finally:
        vault.save(instance)


def next_keys(site: SecureSite, asked: ConfigRecord) -> dict[str, bytes]:
    """Begin the next instance where the message asks for it."""
    raw = wire.part(asked, wire.KEYS)
    if raw is None:
        return {}
    instance = site.vault.begin(decode(raw, KeysRequest).instance)
    return {wire.KEYS: encode(instance.begin())}


@dataclass(frozen=True)
class Step:
    """What a message asks a sum of: the kind, the model, the round and, in a search, which.

    `number`: of the round; None for statistics, which have no model.
    """

    kind: str
    base: bytes
    series: str
    number: int | None

    @classmethod
    def of(cls, kind: str, content: RecordDict, *, search: bool) -> "Step":
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
        return [self.base, round_base(run, self.kind, self.number)]


def round_base(run: str, kind: str, number: int) -> bytes:
    """Return what stands for a round in the journal, whatever its model."""
    return digest("primia secagg v1 round", run, kind, number)


def keep_at_home(site: SecureSite, message: Message, plain: Message) -> None:
    """Write the site's own measurements into its own log; nobody else sees them."""
    metrics = plain.content.metric_records.get(METRICS, MetricRecord())
    path = site.vault.folder / "own-measurements.jsonl"
    number = message.content.config_records[CONFIG].get(ROUND, 0)
    line = {"message": message.metadata.message_type, "round": number, **dict(metrics)}
    append_line(path, json.dumps(line).encode())
