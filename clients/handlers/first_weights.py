"""What a site asks of the weights that a run begins with at it.

Its patients may have trained them before, which no epsilon of the run counts. So the model of a
private run's first request is what the public seed gives, or the site's own policy lists it. With
`allow_weights: known` in the policy this holds for every run, and published weights that the site
has installed are known to it, too.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from flwr.app import ConfigRecord, Message

from clients.site.opened import OpenSite
from primia_flwr.errors import ConfigError, PolicyRefusal, PrivacyBudgetError
from primia_flwr.messages import keys, records
from primia_flwr.messages.relay import ANCESTORS, FIRST
from primia_flwr.messages.secure import numpy_arrays
from primia_flwr.models.origin import is_here
from primia_flwr.models.provenance import arrays_digest, same_arrays
from primia_flwr.pipeline.first_model import first_model
from primia_flwr.storage.atomic import write_result

logger = logging.getLogger(__name__)

_Arrays = Mapping[str, npt.NDArray[Any]]
_CHECKED = "first-weights-checked.json"


def check_first_weights(site: OpenSite, message: Message, number: int) -> None:
    """Refuse to begin a private run with weights that this site's patients may be in.

    Parameters
    ----------
    site : OpenSite
        A simulated one is let through: its coordinator has asked the weights' card, and it has no
        policy.
    message : Message
        The first request for an update that a run makes of this site.
    number : int
        Its round.

    Raises
    ------
    PrivacyBudgetError
        If the weights are neither.
    """
    if site.simulated:
        return
    arrived, known = numpy_arrays(message.content.array_records[keys.ARRAYS]), _origins(message)
    first = _first_sent(message) or arrived
    if _is_listed(site, known) or _is_first(site, first, known, published=False):
        return
    raise PrivacyBudgetError(
        f"the model of round {number}, with which this private run begins here, has SHA-256 "
        f"{arrays_digest(arrived)} and is not what the run's seed gives; expected random weights "
        "(model.weights=none, from round 1 on), or a digest in this site's initial_weights: this "
        "site's patients may have been in its training, which no epsilon of this run counts; list "
        "the digest if they certainly were not"
    )


def check_known_weights(site: OpenSite, message: Message, number: int) -> None:
    """Refuse to begin any run with weights of unknown origin, where the site's policy says so.

    The parameters are those of `check_first_weights`. Once a run has begun, its later models are
    what came of it.

    Raises
    ------
    PolicyRefusal
        If the weights are not known.
    """
    if site.simulated or not site.known_weights or _has_begun(site):
        return
    arrived, known = numpy_arrays(message.content.array_records[keys.ARRAYS]), _origins(message)
    first = _first_sent(message) or arrived
    if not (_is_listed(site, known) or _is_first(site, first, known, published=True)):
        raise PolicyRefusal(
            f"the model of round {number}, with which this run begins here, has SHA-256 "
            f"{arrays_digest(arrived)}, which is of no weights that this site knows; expected "
            "random ones of the run's seed or published ones that are installed here, from round 1 "
            "on, or a digest in this site's initial_weights; list it, or set allow_weights: any"
        )
    site.state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_result(site.state.folder / _CHECKED, {"run": site.experiment.aggregation.run})


def _has_begun(site: OpenSite) -> bool:
    """Say whether the first model of this very run was looked at before."""
    try:
        known = json.loads((site.state.folder / _CHECKED).read_bytes())
    except (OSError, ValueError):
        return False
    run = site.experiment.aggregation.run
    return bool(run) and isinstance(known, dict) and known.get("run") == run


def _origins(message: Message) -> set[str]:
    """Return the digest of the model that arrived, and of those that it came from in a relay."""
    arrived = arrays_digest(numpy_arrays(message.content.array_records[keys.ARRAYS]))
    config = message.content.config_records.get(keys.CONFIG, ConfigRecord())
    before = config.get(ANCESTORS, [])  # of `relay_mod`, which has looked at the signatures
    return {arrived, *(map(str, before) if isinstance(before, list) else ())}


def _first_sent(message: Message) -> _Arrays:
    """Return the first weights of a relay, which the mod has found to be those it came from."""
    record = message.content.array_records.get(FIRST)
    return {} if record is None else numpy_arrays(record)


def _is_listed(site: OpenSite, known: set[str]) -> bool:
    return not known.isdisjoint(site.initial_weights)


def _is_first(site: OpenSite, first: _Arrays, known: set[str], *, published: bool) -> bool:
    """Say whether one is what this site makes of the run's configuration itself.

    `first`: the model that arrived, or, of a relay, that it came from; it may differ by what
    another processor rounds otherwise. `known`: digests, where no more is known.
    """
    experiment = site.experiment
    public = is_here(experiment.model) if published else experiment.model.weights == "none"
    if not public:
        return False
    try:
        drawn = first_model(experiment, len(site.data.train.classes))
    except ConfigError as error:  # the weights are not installed here
        logger.warning("the first weights cannot be compared: %s", error)
        return False
    own = numpy_arrays(records.to_arrays(drawn.state_dict()))
    return same_arrays(first, own) or arrays_digest(own) in known
