"""One configuration of a search, as a message names it and the site checks it.

The experiment, which a site can read before it answers anything, says which keys may vary and
between which values. A message may choose among them, and nothing else.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable

from clients.leaving import PROTOCOL, RELAY, STATISTICS
from clients.site.node import experiment_of
from primia_flwr.config.search.searched import space_of, with_values
from primia_flwr.errors import ConfigError, PolicyRefusal, ProtocolError
from primia_flwr.messages.keys import CONFIG, TRIAL, VALUES

if TYPE_CHECKING:
    from clients.site.opened import OpenSite

_LONGEST_VALUES = 10_000  # characters


def search_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Have the site answer as the configuration says that the message names.

    Raises
    ------
    ProtocolError
        If message and experiment do not agree on whether this is a search, or the configuration
        cannot be read.
    PolicyRefusal
        If a key or a value is outside the space in the experiment.
    """
    alike = (STATISTICS, PROTOCOL, RELAY)  # in all configurations
    if message.metadata.message_type in alike:
        return call_next(message, context)
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    named, search = TRIAL in config or VALUES in config, experiment_of(context).search
    if named != search.enabled:
        raise ProtocolError(
            f"search.population={search.population}, but the message names "
            f"{'a' if named else 'no'} configuration; expected both alike"
        )
    if not named:
        return call_next(message, context)
    from clients.site.opened import SiteContext, open_site

    return call_next(message, SiteContext(context, searched_site(open_site(context), config)))


def searched_site(site: "OpenSite", config: ConfigRecord) -> "OpenSite":
    """Return the site as the configuration has it that a message's `config` names."""
    population = site.experiment.search.population
    number, text = config.get(TRIAL), config.get(VALUES)
    if type(number) is not int or not 0 <= number < population:
        raise ProtocolError(f"{TRIAL}={number!r:.60}; expected a number from 0 to {population - 1}")
    if not isinstance(text, str) or len(text) > _LONGEST_VALUES:
        raise ProtocolError(f"{VALUES} is no text of up to {_LONGEST_VALUES} characters")
    return _varied(site, number, text)


def _varied(site: "OpenSite", number: int, text: str) -> "OpenSite":
    values = _read(text)
    try:
        if values:  # nothing: the experiment's own configuration
            space_of(site.experiment).check(values)
        experiment = with_values(site.experiment, values)
    except ConfigError as error:
        raise PolicyRefusal(
            f"site {site.name} refuses configuration {number}: {error}; allowed here is what the "
            "run's experiment names in search.space"
        ) from None
    return replace(site, experiment=experiment, trial=number)


def _read(text: str) -> dict[str, Any]:
    """Read a JSON object without doubled keys, NaN and infinity."""
    try:
        values = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{VALUES} ({error!s:.80}); expected a JSON object") from None
    if not isinstance(values, dict):
        raise ProtocolError(f"{VALUES} is a {type(values).__name__}; expected a JSON object")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
