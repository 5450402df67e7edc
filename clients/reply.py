"""The one builder of a reply."""

from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from primia_flwr.messages import keys


def reply_to(
    message: Message, site: str, records: dict[str, Any], *, outputs: int | None = None
) -> Message:
    """Return a reply, with the site's name behind its first record.

    `message`: what is answered. `site`: the name under which the site answers. `records`: Flower
    records by name; those that are None are left out. `outputs`: the width of the site's model,
    where the coordinator checks it.
    """
    name: dict[str, Any] = {keys.SITE_NAME: site}
    if outputs is not None:
        name[keys.OUTPUTS] = outputs
    sent = [item for item in records.items() if item[1] is not None]
    content = RecordDict(dict([*sent[:1], (keys.SITE, ConfigRecord(name)), *sent[1:]]))
    return Message(content=content, reply_to=message)
