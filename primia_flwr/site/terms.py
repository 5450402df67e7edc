"""What a run's configuration asks of this site, beside what the site's own policy says.

What protects a hospital comes from its policy. Where the coordinator's wish reaches a protection,
it is compared here, before any code of the bundle runs: a wish that asks for less is a refusal, one
that asks for more is kept. The table in docs/threat-model.md has a row for each key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from primia_flwr.config.experiment.privacy import PRIVATE_MODES, SUM_MODES
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rows import TASKS
from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.members import MEMBERS, check_members
from primia_flwr.site.policy import SitePolicy

_Config = Mapping[str, Any]
_LONGEST_VALUE = 60  # characters of a value that a refusal repeats
BUNDLE = "deployment.bundle"
_INSISTS = "this site's policy has require_secure_aggregation: true"
_SUMS = ("secure", "buffered")  # ways in which the coordinator sees sums only
_HIDE_ONE = 3  # updates in a sum of which nobody who has sent one of them can tell another
_BATCHES, _BATCH_SIZE = "training.sync_every_n_batches", "training.batch_size"


@dataclass(frozen=True)
class _Term:
    """One key of the run's configuration that reaches a protection.

    `fits` says whether the value is good enough for the policy, `expected` what would be.
    """

    key: str
    fits: Callable[[Any, _Config, SitePolicy], bool]
    expected: Callable[[SitePolicy], str]


def check_terms(config: _Config, policy: SitePolicy, bundle: str) -> None:
    """Refuse a run that asks for less protection than the policy gives.

    Parameters
    ----------
    config : mapping
        The run's experiment as it arrived. A key that is missing has the default of the installed
        schema, as the bundle's own reader would give it.
    policy : SitePolicy
        The site's.
    bundle : str
        SHA-256 of the bundle that arrived.

    Raises
    ------
    PolicyRefusal
        Naming the first such key, its value and what was expected.
    """
    for term in TERMS:
        value = wish(config, term.key)
        if not term.fits(value, config, policy):
            raise PolicyRefusal(
                f"site {policy.site} refuses: {term.key}={_shown(value)}; expected "
                f"{term.expected(policy)}"
            )
    named = wish(config, BUNDLE)
    if named not in ("", bundle):
        raise PolicyRefusal(
            f"site {policy.site} refuses: {BUNDLE}={_shown(named)}; expected the hash of the "
            "bundle that came"
        )
    if _secure(config) or _relayed(config) or _asynchronous(config):
        check_members(wish(config, MEMBERS), policy)


def wish(config: _Config, key: str) -> Any:
    """Return the value of a dotted key, or the default of the schema."""
    found: Any = config
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _default(key)
        found = found[part]
    return found


def _default(key: str) -> Any:
    found: Any = Experiment()
    for part in key.split("."):
        found = getattr(found, part)
    return found


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


# --- The table ---------------------------------------------------------------------------------


def _at_least(name: str) -> _Term:
    """Return the term of `aggregation.<name>`: it may be higher than the policy's."""

    def fits(value: Any, config: _Config, policy: SitePolicy) -> bool:
        return not _secure(config) or _whole(value) >= _floor(name, config, policy)

    def expected(policy: SitePolicy) -> str:
        sparse = f", on a sparse graph {getattr(policy, f'sparse_{name}')}"
        return f"at least {getattr(policy, name)}" + (sparse if policy.allow_sparse_graph else "")

    return _Term(f"aggregation.{name}", fits, expected)


def _floor(name: str, config: _Config, policy: SitePolicy) -> int:
    sparse = _whole(wish(config, "aggregation.degree")) > 0
    return int(getattr(policy, f"sparse_{name}" if sparse else name))


def _only_if(key: str, allowed: str, ordinary: Any, instead: str) -> _Term:
    """Return the term of a key that leaves its ordinary value only where the policy allows it."""

    def fits(value: Any, config: _Config, policy: SitePolicy) -> bool:
        same = type(value) is type(ordinary) and value == ordinary
        return same or getattr(policy, allowed) is True

    return _Term(key, fits, lambda policy: f"{instead}; this site's policy has {allowed}: false")


def _same(key: str, own: str, *, ordinary: Any = None, private: bool = False) -> _Term:
    """Return the term of a key that must be as the policy has it, or be left to the policy."""

    def fits(value: Any, config: _Config, policy: SitePolicy) -> bool:
        if private and not _private(config):
            return True
        mine = getattr(policy, own)
        left_to_it = ordinary is not None and value == ordinary
        return left_to_it or (type(value) is not bool and bool(value == mine))

    def expected(policy: SitePolicy) -> str:
        also = f" or {ordinary!r}" if ordinary is not None else ""
        return f"what this site's policy has as {own}{also}"

    return _Term(key, fits, expected)


def _reads_labels(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether a task takes such labels as lie at the site: a class, a mask, or findings.

    What counts single patients, too, is for secure sums, or for a policy that names such a task.
    """
    if policy.plugin_task:
        return bool(value == policy.plugin_task)
    if type(value) is not str or value not in TASKS:
        return False
    asked, own = TASKS[value], TASKS[policy.data_task]
    if asked.counts_patients and not own.counts_patients and not _secure(config):
        return False
    return bool((asked.masked, asked.several) == (own.masked, own.several))


def _known_classes(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether the site's labels tell these classes apart; of masks all, in the same order."""
    own = policy.data_classes
    if type(value) is not list or any(type(name) is not str for name in value):
        return False
    if own and policy.masked:
        return bool(value == own)
    return not own or set(value) <= set(own)


def _private(config: _Config) -> bool:
    return wish(config, "privacy.mode") in PRIVATE_MODES


def _secure(config: _Config) -> bool:
    return wish(config, "aggregation.name") in _SUMS


def _whole(value: Any) -> int:
    """Return a whole number; one that no floor admits for anything else."""
    return value if type(value) is int else -1


def _may_see(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether those may see this site's model who see it in such a run."""
    if value == "relay":
        bounded = wish(config, "privacy.mode") == "dp_sgd" and policy.max_epsilon > 0
        return policy.allow_relay == "yes" or (policy.allow_relay == "private" and bounded)
    return value in _SUMS or policy.require_secure_aggregation is False


def _no_matrix(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether no other site is given this site's model at the end, or may be given it."""
    return value is False or (value is True and policy.allow_relay == "yes")


def _no_verdicts(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether the sites of an ensemble judge no model of another, or may be given it."""
    if not isinstance(value, Mapping):
        return False
    return value.get("vote", "mean") in ("mean", "size") or policy.allow_relay == "yes"


def _no_other_site(instead: str) -> Callable[[SitePolicy], str]:
    return lambda policy: (
        f"{instead}: else other hospitals get this site's model, which needs allow_relay: yes in "
        f"its policy, and it is {policy.allow_relay}"
    )


def _in_the_open(config: _Config, policy: SitePolicy) -> bool:
    """Say whether the coordinator may see the model of a relay, or the run is none."""
    return not _relayed(config) or policy.require_secure_aggregation is False


def _relayed(config: _Config) -> bool:
    return bool(wish(config, "aggregation.name") == "relay")


def _asynchronous(config: _Config) -> bool:
    return wish(config, "aggregation.name") in ("asynchronous", "buffered")


def _hides_one_update(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether no other site can tell this one's update from two models that it gets.

    Of two updates the other site subtracts its own. A buffer that is one secure sum is never less
    than the policy wants in a sum, whatever it allows a relay.
    """
    summed = _secure(config) and _asynchronous(config)
    if summed and _whole(value) < policy.min_survivors:
        return False
    if not _asynchronous(config) or policy.allow_relay == "yes":
        return _whole(value) > 0
    bounded = wish(config, "privacy.mode") == "dp_sgd" and policy.max_epsilon > 0
    least = min(_whole(value), _whole(wish(config, "federation.min_sites")))
    enough = least >= max(_HIDE_ONE, policy.min_sites)
    return enough or (policy.allow_relay == "private" and bounded)


def _enough_images(value: Any, config: _Config, policy: SitePolicy) -> bool:
    batches, size = _whole(value), _whole(wish(config, _BATCH_SIZE))
    return batches == 0 or batches * size >= policy.min_round_images


def _noise_counts_on(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether noise in the sum counts on as many sites that know their noise as the policy."""
    if wish(config, "privacy.mode") not in SUM_MODES:
        return True
    knowing = max(_whole(value), _whole(wish(config, "aggregation.max_colluding")))
    return knowing >= max(1, _floor("max_colluding", config, policy))


def _any_list_may_be_asked(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether sums may be over any lists: where the site allows it, or noise pays for it."""
    if value is False:
        return True
    noisy = wish(config, "privacy.mode") == "dp_sgd" and policy.max_epsilon > 0
    return value is True and (noisy or policy.allow_other_survivors)


def _begins_with_known(value: Any, config: _Config, policy: SitePolicy) -> bool:
    """Say whether a run begins as the policy wants: the model itself is looked at when it comes."""
    if type(value) is not str:
        return False
    if value == "none" or policy.initial_weights:
        return True
    if _private(config):
        return False
    return value == "imagenet" or policy.allow_weights == "any"


def _known_weights(policy: SitePolicy) -> str:
    known = "none or imagenet; " if policy.allow_weights == "known" else ""
    return (
        f"{known}none in a private run; others need initial_weights in this site's policy, by "
        "which the model is compared when it arrives"
    )


TERMS: tuple[_Term, ...] = (
    _Term(
        "aggregation.name",
        _may_see,
        lambda policy: (
            "secure: without it the coordinator sees single updates; relay, in which the next "
            f"hospital sees this model, needs allow_relay, which is {policy.allow_relay} here "
            "(private: privacy.mode=dp_sgd and a max_epsilon)"
        ),
    ),
    _Term(
        "aggregation.sealed",
        lambda value, config, policy: (
            type(value) is bool and (value or _in_the_open(config, policy))
        ),
        lambda _: f"true in a relay: {_INSISTS}",
    ),
    _Term(
        "aggregation.reveal",
        lambda value, config, policy: (
            value == "never" or (value == "end" and _in_the_open(config, policy))
        ),
        lambda _: f"never in a relay: {_INSISTS}",
    ),
    _Term(
        "aggregation.buffer",
        _hides_one_update,
        lambda policy: (
            f"at least {max(_HIDE_ONE, policy.min_sites)}, and federation.min_sites as many: other "
            "sites see the models before and after so few updates, and what is between them; fewer "
            "need "
            f"allow_relay, which is {policy.allow_relay} here (private: privacy.mode=dp_sgd and a "
            f"max_epsilon); of secure sums never below min_survivors={policy.min_survivors}"
        ),
    ),
    _Term(
        "privacy.mode",
        lambda value, _, policy: value in PRIVATE_MODES or policy.max_epsilon == 0,
        lambda policy: (
            f"one of {', '.join(PRIVATE_MODES)}, within max_epsilon={policy.max_epsilon:g}: a run "
            "without differential privacy has no epsilon"
        ),
    ),
    _Term(
        "federation.min_sites",
        lambda value, _, policy: _whole(value) >= policy.min_sites,
        lambda policy: f"at least {policy.min_sites}",
    ),
    _only_if("aggregation.degree", "allow_sparse_graph", 0, "0, the complete graph"),
    _at_least("min_survivors"),
    _at_least("max_colluding"),
    _only_if("aggregation.accept_two", "accept_two", False, "false"),
    _Term(
        "aggregation.allow_other_survivors",
        _any_list_may_be_asked,
        lambda policy: (
            "false; true needs allow_other_survivors in this site's policy, or "
            "privacy.mode=dp_sgd and a max_epsilon"
        ),
    ),
    _only_if("aggregation.mixed_rounds", "allow_mixed_rounds", False, "false"),
    _only_if("data.volumes.fingerprint", "allow_fingerprint", False, "false"),
    _same("aggregation.member_lists_since", "member_lists_since", ordinary=""),
    _Term("debug.cross_site", _no_matrix, _no_other_site("false")),
    _Term("strategy.options", _no_verdicts, _no_other_site("vote=mean or vote=size")),
    _Term("debug.verify_sums", lambda value, *_: value is False, lambda _: "false"),
    _Term(
        "data.task",
        _reads_labels,
        lambda policy: (
            f"one whose labels are those of data_task={policy.data_task} in this policy, and which "
            "counts single patients under secure aggregation only"
        ),
    ),
    _Term(
        "data.classes",
        _known_classes,
        lambda policy: f"names, of data_classes in this site's policy={policy.data_classes!a}",
    ),
    _same("data.patient_pattern", "patient_pattern", ordinary=""),
    _same("data.patient_column", "patient_column", ordinary="patient"),
    _same("data.columns", "data_columns", ordinary={}),
    _same("privacy.unit", "privacy_unit", private=True),
    _same("privacy.delta", "privacy_delta", private=True),
    _Term("model.weights", _begins_with_known, _known_weights),
    _Term(
        "privacy.max_knowing",
        _noise_counts_on,
        lambda policy: (
            f"at least {max(1, policy.max_colluding)} for privacy.mode={' or '.join(SUM_MODES)}"
        ),
    ),
    _Term(
        _BATCHES,
        _enough_images,
        lambda policy: (
            f"0, or so many that times {_BATCH_SIZE} they are at least "
            f"min_round_images={policy.min_round_images}"
        ),
    ),
)
