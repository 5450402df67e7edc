"""May this message be answered here? A pure function of the message's facts and the policy.

Nothing of the arriving bundle is imported or executed to find out. What is looked at was
pulled by the hospital's own SuperNode: the bundle's bytes, the run, the message's type and the
run's configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from primia_flwr.config.privacy import PRIVATE_MODES
from primia_flwr.config.searched import SEARCHABLE
from primia_flwr.config.space import parse_space
from primia_flwr.errors import ConfigError, PolicyRefusal
from primia_flwr.site.bundles import Bundle, inspect, sha256
from primia_flwr.site.policy import ANY, SitePolicy, load_yaml_mapping

MAX_CONFIG_CHARACTERS = 1_000_000
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
class Admission:
    """A message that the policy allows: its bundle and the name of its experiment.

    `varies`: the keys that a search may set anew in every round, within the experiment's space.
    """

    bundle: Bundle
    experiment: str
    varies: tuple[str, ...] = ()


class UnknownBundle(PolicyRefusal):
    """The bundle is not among the approved ones."""


def judge(request: Request, policy: SitePolicy) -> Admission:
    """Return the admission, or refuse with the first reason that applies.

    Raises
    ------
    UnknownBundle
        If the hospital has not approved the bundle.
    PolicyRefusal
        If anything else is not allowed. The sentence is meant for the coordinator too.
    """
    bundle = _check_bundle(request, policy)
    _check_verb(request.message_type, policy)
    content = _composed_config(request.run_config, policy)
    return Admission(bundle, _check_experiment(content, policy), _check_search(content, policy))


def _check_bundle(request: Request, policy: SitePolicy) -> Bundle:
    digest = sha256(request.bundle)
    if request.run_task not in _FEDERATED_TASKS:
        raise PolicyRefusal(
            f"site {policy.site} refuses: task {request.run_task!r}; expected a federated run"
        )
    if any(claimed != digest for claimed in request.claimed_hashes):
        raise PolicyRefusal(
            f"site {policy.site} refuses: the bundle's content has the hash {digest[:12]}, not "
            "the one that the run names; expected the bundle that was submitted"
        )
    if digest not in policy.approved_bundles:
        raise UnknownBundle(
            f"site {policy.site} refuses: bundle {digest} is not approved here; the hospital "
            f"looks at it with `primia site review {digest[:12]}` and may approve it"
        )
    bundle = inspect(request.bundle)
    if (bundle.app_id, bundle.version) != (request.app_id, request.app_version):
        raise PolicyRefusal(
            f"site {policy.site} refuses: the run names the app {request.app_id} "
            f"{request.app_version}, the bundle holds {bundle.app_id} {bundle.version}"
        )
    return bundle


def _check_verb(message_type: str, policy: SitePolicy) -> None:
    category = message_type.split(".", maxsplit=1)[0]
    if not {message_type, category} & set(policy.allowed_verbs):
        raise PolicyRefusal(
            f"site {policy.site} refuses: message {message_type!r}; allowed here: "
            f"{', '.join(policy.allowed_verbs) or 'none'}"
        )


def _check_search(content: Mapping[str, Any], policy: SitePolicy) -> tuple[str, ...]:
    """Return the keys that the run may vary from round to round: none where it is no search."""
    search = content.get("search") or {}
    population, space = (
        (search.get("population", 0), search.get("space") or {})
        if isinstance(search, dict)
        else (None, {})
    )
    if type(population) is not int or not isinstance(space, dict):
        raise PolicyRefusal(
            f"site {policy.site} refuses: its search cannot be read; expected search.population "
            "and search.space"
        )
    if population == 0:
        return ()
    try:
        names = parse_space(space).names
    except ConfigError as error:
        raise PolicyRefusal(f"site {policy.site} refuses: search.space: {error}") from None
    for key in names:
        if key not in SEARCHABLE:
            raise PolicyRefusal(
                f"site {policy.site} refuses: search.space has {key:.80}, which cannot vary inside "
                "a run"
            )
    return names


def _check_experiment(content: Mapping[str, Any], policy: SitePolicy) -> str:
    name = content.get("name")
    if not isinstance(name, str) or not {name, ANY} & set(policy.allowed_experiments):
        raise PolicyRefusal(
            f"site {policy.site} refuses: experiment {name!r}; allowed here: "
            f"{', '.join(policy.allowed_experiments) or 'none'}"
        )
    federation = content.get("federation")
    min_sites = federation.get("min_sites") if isinstance(federation, dict) else None
    if type(min_sites) is not int or min_sites < policy.min_sites:
        raise PolicyRefusal(
            f"site {policy.site} refuses: federation.min_sites={min_sites!r}; expected at least "
            f"{policy.min_sites}"
        )
    strategy = content.get("strategy")
    secure = strategy.get("secure") if isinstance(strategy, dict) else None
    if policy.require_secure_aggregation and not (
        isinstance(secure, dict) and secure.get("enabled") is True
    ):
        raise PolicyRefusal(
            f"site {policy.site} refuses: a run in which the coordinator sees single updates; "
            "expected strategy=secagg"
        )
    privacy = content.get("privacy")
    mode = privacy.get("mode") if isinstance(privacy, dict) else None
    if policy.max_epsilon > 0 and mode not in PRIVATE_MODES:
        raise PolicyRefusal(
            f"site {policy.site} refuses: a run without differential privacy has no epsilon; "
            f"expected one of privacy={', '.join(PRIVATE_MODES)}, within max_epsilon="
            f"{policy.max_epsilon:g}"
        )
    return name


def _composed_config(run_config: Mapping[str, Any], policy: SitePolicy) -> dict[str, Any]:
    text = run_config.get("config")
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_CONFIG_CHARACTERS:
        raise PolicyRefusal(
            f"site {policy.site} refuses: the run carries no readable experiment (run-config key "
            "'config'); start it with `primia train`"
        )
    try:
        return load_yaml_mapping(text, what="the run's experiment")
    except ConfigError as error:
        raise PolicyRefusal(f"site {policy.site} refuses: {error}") from None
