"""May this message be answered here? A pure function of the message's facts and the policy.

Nothing of the arriving bundle is imported or executed to find out. What is looked at was
pulled by the hospital's own SuperNode: the bundle's bytes, the run, the message's type and the
run's configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primia_flwr.config import renamed
from primia_flwr.config.plain_yaml import MAX_CHARACTERS, load_mapping
from primia_flwr.config.search.searched import SEARCHABLE
from primia_flwr.config.search.space import parse_space
from primia_flwr.errors import ConfigError, PolicyRefusal
from primia_flwr.site.bundle.contents import Bundle, inspect, sha256
from primia_flwr.site.policy import ANY, SitePolicy
from primia_flwr.site.terms import check_terms
from primia_flwr.storage.printable import printable, short, shown
from primia_flwr.storage.reading import reading

_MAX_CONFIG_CHARACTERS = MAX_CHARACTERS
# A run's primary task; Flower 1.41 calls ordinary federated runs "flwr-serverapp".
_FEDERATED_TASKS = ("", "flwr-serverapp")


@dataclass(frozen=True)
class Request:
    """What is known of a message before any of its code runs."""

    bundle: bytes
    claimed_hashes: tuple[str, ...]
    app_id: str
    app_version: str
    run_task: str
    message_type: str
    run_config: Mapping[str, Any]


@dataclass(frozen=True)
class _Admission:
    """A message that the policy allows: its bundle and the name of its experiment.

    `varies`: the keys that a search may set anew in every round, within the experiment's space.
    """

    bundle: Bundle
    experiment: str
    varies: tuple[str, ...] = ()


class UnknownBundle(PolicyRefusal):
    """The bundle is not among the approved ones."""


def judge(request: Request, policy: SitePolicy) -> _Admission:
    """Return the admission, or refuse with the first reason that applies.

    Raises
    ------
    UnknownBundle
        If the hospital has not approved the bundle.
    PolicyRefusal
        If anything else is not allowed. The sentence is meant for the coordinator too.
    """
    bundle = _check_bundle(request, policy)
    _check_message(request.message_type, policy)
    content = _composed_config(request.run_config, policy)
    name = _check_experiment(content, policy)
    check_terms(content, policy, bundle.sha256)
    return _Admission(bundle, name, _check_search(content, policy))


def _check_bundle(request: Request, policy: SitePolicy) -> Bundle:
    digest = sha256(request.bundle)
    if request.run_task not in _FEDERATED_TASKS:
        raise _refusal(policy, f"task {shown(request.run_task)}; expected a federated run")
    if any(claimed != digest for claimed in request.claimed_hashes):
        raise _refusal(
            policy,
            f"the bundle's content has the hash {digest}, not the one that the run names; expected "
            "the bundle that was submitted",
        )
    if digest not in policy.approved_bundles:
        raise UnknownBundle(
            f"site {policy.site} refuses: bundle {digest} is not approved here; the hospital "
            "looks at it with `primia site review` and may approve the whole hash"
        )
    return _inspected(request, policy)


def _inspected(request: Request, policy: SitePolicy) -> Bundle:
    """Return what the bundle says of itself; refuse one that is not what the run names."""
    try:
        bundle = inspect(request.bundle)
    except PolicyRefusal as refusal:
        raise _refusal(policy, str(refusal)) from None
    if (bundle.app_id, bundle.version) != (request.app_id, request.app_version):
        raise _refusal(
            policy,
            f"the run names the app {shown(request.app_id)} {shown(request.app_version)}, the "
            f"bundle holds {shown(bundle.app_id)} {shown(bundle.version)}",
        )
    return bundle


def _check_message(message_type: str, policy: SitePolicy) -> None:
    category = message_type.split(".", maxsplit=1)[0]
    if not {message_type, category} & set(policy.allowed_messages):
        raise _refusal(
            policy,
            f"message {shown(message_type)}; allowed here: {_listed(policy.allowed_messages)}",
        )


def _check_search(content: Mapping[str, Any], policy: SitePolicy) -> tuple[str, ...]:
    """Return the keys that the run may vary from round to round: none where it is no search."""
    search = content.get("search") or {}
    told = search if isinstance(search, dict) else {"population": None}
    population, space = told.get("population", 0), told.get("space") or {}
    if type(population) is not int or not isinstance(space, dict):
        raise _refusal(
            policy, "its search cannot be read; expected search.population and search.space"
        )
    if population == 0:
        return ()
    try:
        with reading("search.space", error=ConfigError, expected="ranges and choices of keys"):
            names = parse_space(space).names
    except ConfigError as error:
        raise _refusal(policy, f"search.space: {shown(str(error), limit=150)}") from None
    for key in names:
        if key not in SEARCHABLE:
            raise _refusal(policy, f"search.space has {shown(key)}, which cannot vary inside a run")
    return names


def _check_experiment(content: Mapping[str, Any], policy: SitePolicy) -> str:
    name = content.get("name")
    if not isinstance(name, str) or not {name, ANY} & set(policy.allowed_experiments):
        raise _refusal(
            policy, f"experiment {shown(name)}; allowed here: {_listed(policy.allowed_experiments)}"
        )
    return name


def _composed_config(run_config: Mapping[str, Any], policy: SitePolicy) -> dict[str, Any]:
    text = run_config.get("config")
    if not isinstance(text, str) or not text.strip() or len(text) > _MAX_CONFIG_CHARACTERS:
        raise _refusal(
            policy,
            "the run carries no readable experiment (run-config key 'config'); start it with "
            "`primia train`",
        )
    try:
        content = load_mapping(text, what="the run's experiment")
        renamed.check_keys(content)
    except ConfigError as error:
        raise _refusal(policy, str(error)) from None
    return content


def _refusal(policy: SitePolicy, sentence: str) -> PolicyRefusal:
    """Return a refusal of this site: one short sentence that any terminal can show."""
    return PolicyRefusal(short(f"site {policy.site} refuses: {sentence}"))


def _listed(names: Sequence[str]) -> str:
    return printable(", ".join(names), limit=100) or "none"
