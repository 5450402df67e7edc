"""Around a training in a relay: where the model that came comes from, and this site's own word."""

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from clients.site.identity import SecureSite
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import relay as wire
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.keys import ARRAYS, CONFIG
from primia_flwr.secagg.protocol.lineage import ancestors, link
from primia_flwr.secagg.protocol.wire import RelayLineage, decode


def signed(
    site: SecureSite, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Answer a message: say from which models the one that came has come, sign what is made of it.

    Raises
    ------
    ProtocolError
        If a link that leads to the model is not signed by a site of the roster.
    """
    from primia_flwr.models.provenance import arrays_digest

    before = values_of(message.content.array_records.get(ARRAYS, ArrayRecord()))
    digest = bytes.fromhex(arrays_digest(before))
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    raw = config.get(wire.LINEAGE)
    links = decode(raw, RelayLineage).links if isinstance(raw, bytes) else {}
    found = [one.hex() for one in ancestors(links, digest, site.member.session)]
    told = {key: value for key, value in config.items() if key != wire.LINEAGE}
    others = {k: v for k, v in message.content.items() if k not in (CONFIG, wire.FIRST)}
    first = message.content.array_records.get(wire.FIRST, ArrayRecord())
    if found and arrays_digest({**before, **values_of(first)}) == found[-1]:
        others[wire.FIRST] = held({**before, **values_of(first)})
    config = ConfigRecord({**told, wire.ANCESTORS: found})
    message.content = RecordDict({**others, CONFIG: config})
    reply = call_next(message, context)
    trained = reply.content.array_records.get(ARRAYS)
    if trained is not None:
        after = bytes.fromhex(arrays_digest({**before, **values_of(trained)}))
        run, identity = site.member.session.run, site.member.identity
        own = link(identity, run=run, site=site.name, before=digest, after=after)
        reply.content[wire.LINEAGE] = ConfigRecord({wire.LINK: own})
    return reply


def refuse_lineage(message: Message) -> None:
    """Refuse a message with keys of a relay in a run that is none.

    Raises
    ------
    ProtocolError
        If it has one.
    """
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    for key in (wire.LINEAGE, wire.ANCESTORS, wire.FIRST):
        if key in config or key in message.content:
            raise ProtocolError(f"{key} in a run that is no relay; expected nothing of it")
