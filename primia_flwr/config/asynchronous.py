"""What a run may not contain that waits for no site, and why."""

from collections.abc import Iterator
from typing import Any

from primia_flwr.config.rules import Need
from primia_flwr.errors import ConfigError

_Rule = tuple[str, object, object, str]  # key, value, what it must be (a tuple: one of), why
_ALIKE = "how often a site rests or trains would show in sums over few sites"
_IN_WHOLE_SUMS = "its noise is complete in the sum over all sites of a round only, and here is none"


def check_asynchronous(experiment: Any) -> None:
    """Refuse what does not go with `aggregation=asynchronous`, or with `buffered`.

    Raises
    ------
    ConfigError
        Naming the first such key, why it cannot be, and what to set.
    """
    if not experiment.aggregation.asynchronous:
        return
    _check_rule(experiment)
    _check_buffer(experiment)
    way = experiment.aggregation.name
    if experiment.aggregation.buffered:
        _check_sums(experiment)
    parts = [_rounds, _measurements, _private, _validation]
    for part in [_masked, *parts] if experiment.aggregation.buffered else parts:
        for key, value, needed, reason in part(experiment):
            allowed = needed if isinstance(needed, tuple) else (needed,)
            if value not in allowed:
                raise ConfigError(
                    f"{key}={_plain(value)} with aggregation.name={way}; expected "
                    f"{' or '.join(map(_plain, allowed))}: {reason}"
                )


def _check_rule(experiment: Any) -> None:
    name, rule = experiment.strategy.name, experiment.strategy.rule
    if rule.needs is Need.MEAN and not rule.variates:
        return
    needs = "control variates of the same round" if rule.variates else rule.needs.value
    way = experiment.aggregation.name
    raise ConfigError(
        f"strategy.name={name} with aggregation.name={way}; expected a rule that needs only "
        f"the mean, e.g. strategy=fedavg: {name} needs {needs}, and here updates of different "
        "rounds come one by one; or take aggregation=plain"
    )


def _check_buffer(experiment: Any) -> None:
    buffer, sites = experiment.aggregation.buffer, len(experiment.federation.sites)
    if buffer > sites:
        raise ConfigError(
            f"aggregation.buffer={buffer} with {sites} federation.sites; expected at most {sites}: "
            "a round takes one update of a site"
        )


def _check_sums(experiment: Any) -> None:
    """Refuse a buffer that no site would add up, or that could never be anything but all sites."""
    aggregation, sites = experiment.aggregation, len(experiment.federation.sites)
    least = aggregation.min_survivors
    if aggregation.buffer < least:
        raise ConfigError(
            f"aggregation.buffer={aggregation.buffer} with aggregation.min_survivors={least}; "
            f"expected at least {least}: the updates of a buffer are one secure sum"
        )
    free = aggregation.allow_other_survivors or aggregation.buffer == sites
    if not free and sites < 2 * least:
        raise ConfigError(
            f"aggregation.buffer={aggregation.buffer} with {sites} federation.sites and "
            f"aggregation.allow_other_survivors=false; expected {2 * least} sites or more: sums "
            f"are over whole batches of {least} sites by name, and here all sites are one; or set "
            "allow_other_survivors=true, which each site's policy must allow, too"
        )


def _masked(experiment: Any) -> Iterator[_Rule]:
    """Yield what the sums over buffers do not hide, or is not built."""
    aggregation, stopping = experiment.aggregation, experiment.training.early_stopping
    yield (
        "privacy.mode", experiment.privacy.mode, "none",
        "noise in sums over buffers is not built; take aggregation=secure, or asynchronous with "
        "privacy=dp_sgd",
    )  # fmt: skip
    yield (
        "aggregation.degree", aggregation.degree, 0,
        "on a sparse graph a site does not see whose updates are in a buffer",
    )  # fmt: skip
    yield (
        "aggregation.accept_two", aggregation.accept_two, False,
        "of two updates each site knows its own, and when the other's was ready",
    )  # fmt: skip
    yield "training.early_stopping.site.patience", stopping.site.patience, 0, _ALIKE
    yield (
        "debug.verify_sums", experiment.debug.verify_sums, False,
        "the audit knows no discounts",
    )  # fmt: skip


def _rounds(experiment: Any) -> Iterator[_Rule]:
    aggregation = experiment.aggregation
    yield (
        "aggregation.float_mean", aggregation.float_mean, False,
        "updates are added up in the fixed point of all other runs",
    )  # fmt: skip
    yield (
        "aggregation.share", aggregation.share, (1.0, 1),
        "which part of an update is sent follows from the round, and here updates of different "
        "rounds come together",
    )  # fmt: skip
    yield (
        "model.shared", experiment.model.shared, "all",
        "a site's own layers are those of the round before, which a site may not have been in",
    )  # fmt: skip
    yield (
        "search.population", experiment.search.population, 0,
        "configurations are compared after equal rounds over the same sites",
    )  # fmt: skip


def _measurements(experiment: Any) -> Iterator[_Rule]:
    debug = experiment.debug
    yield (
        "debug.cross_site", debug.cross_site, False,
        "the sites' last models are of different rounds; take aggregation=plain",
    )  # fmt: skip
    yield (
        "debug.record_received", debug.record_received, False,
        "a recording holds the model and the updates of one round together; record "
        "aggregation=plain, whose coordinator sees the same of each site",
    )  # fmt: skip


def _private(experiment: Any) -> Iterator[_Rule]:
    privacy, data = experiment.privacy, experiment.data
    yield "privacy.mode", privacy.mode, ("none", "dp_sgd"), _IN_WHOLE_SUMS
    if privacy.enabled:
        why = "no site of such a run tells statistics; set data.normalisation.mean and .std"
        yield "data.normalisation.kind", data.normalisation.kind, "fixed", why
        yield "privacy.statistics_noise", privacy.statistics_noise, (0.0, 0), why
        yield (
            "aggregation.validate_every", experiment.aggregation.validate_every, 0,
            "nothing is validated in a private run",
        )  # fmt: skip


def _validation(experiment: Any) -> Iterator[_Rule]:
    patience = experiment.training.early_stopping.federation.patience
    if not experiment.aggregation.validate_every:
        yield (
            "training.early_stopping.federation.patience", patience, 0,
            "models are compared where all sites validate them; or set "
            "aggregation.validate_every, e.g. 10",
        )  # fmt: skip


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
