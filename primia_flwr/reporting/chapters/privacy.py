"""What a run guarantees to its patients, in words that somebody can sign, with the figures.

The words follow from the run's configuration; in a simulation, where the sites' ledgers lie in the
run's folder, the table says what each of them was charged. A coordinator of real sites has no
ledger: what it may state is what was asked for, and that each site enforced its own ceiling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.errors import PrimiaError
from primia_flwr.models.provenance import Provenance, read_added
from primia_flwr.privacy.accounting.accountant import Guarantee, across_sites, epsilon
from primia_flwr.privacy.accounting.events import AnyEvent
from primia_flwr.privacy.ledger.planned_runs import PlannedRuns
from primia_flwr.privacy.ledger.view import read_ledger

_FILTER = "filter"

HEADINGS = ("Site", "Units", "Releases", "Noise multiplier", "Sampling rate", "Steps",
            "Epsilon (filter)", "Epsilon (fixed plan)")  # fmt: skip
_UNITS = {
    "patient": "one patient with all of his or her images at a site",
    "image": "one single image (a patient with several images is protected less)",
}
_MECHANISMS = {
    "dp_sgd": (
        "Every site trained with DP-SGD: random samples of its units, each unit's gradient clipped "
        "to an L2 norm of {clip}, Gaussian noise on an integer grid from a cryptographic source, "
        "division by the expected batch. The noise was added at the site, before anything left."
    ),
    "dp_aggregate": (
        "Every site clipped its update to an L2 norm of {clip} and added its part of Skellam "
        "noise inside the secure sum, so that the noise of all but {knowing} of the sites in the "
        "smallest sum suffices. This holds towards everybody who sees the sums; it rests on secure "
        "aggregation, since a single site's vector has less noise."
    ),
    "dp_sgd_shared": (
        "Every round was one step of DP-SGD over all sites: each drew its units with the same "
        "public rate, clipped each unit's gradient to an L2 norm of {clip}, and added its part "
        "of Skellam noise inside the secure sum, so that the noise of all but {knowing} of the "
        "sites in the smallest sum suffices. It rests on secure aggregation, since a single site's "
        "vector has less noise."
    ),
}


@dataclass(frozen=True)
class PrivacyAccount:
    """The paragraph, the facts behind it, and one row a site where the ledgers are at hand.

    `epsilon_of_run`: what the run alone cost, or was asked not to pass where no ledger is at hand;
    None where neither is known.
    """

    statement: str
    facts: dict[str, Any]
    rows: list[tuple[str, ...]]
    epsilon_of_run: float | None = None


def privacy_account(run_dir: Path, config: Mapping[str, Any]) -> PrivacyAccount | None:
    """Return the account of a run; None where it claims nothing.

    `run_dir` has `sites/<name>/privacy` in a simulation. `config`: the run's, as plain values.
    """
    cfg = PrivacyConfig(**config.get("privacy", {}))
    if not cfg.enabled:
        return None
    sites = [site for folder in _ledgers(run_dir) if (site := _site(folder, cfg.delta))]
    facts, total = _asked(cfg), ""
    if sites:
        guarantees = [site.guarantee for site in sites]
        whole = across_sites(guarantees, patients=facts["patients_over_sites"])
        facts["epsilon_by_filter"] = max(site.by_filter for site in sites)
        facts["epsilon"], facts["epsilon_accountant"] = whole.epsilon, whole.accountant
        total = _total(whole, cfg)
    of_run, start = facts.get("epsilon", cfg.epsilon or None), read_added(run_dir)
    facts |= _with_start(facts, start)
    statement = _statement(cfg, total) + _of_start(start, cfg, of_run)
    return PrivacyAccount(statement, facts, [site.row for site in sites], of_run)


def _asked(cfg: PrivacyConfig) -> dict[str, Any]:
    return {
        "mode": cfg.mode,
        "unit": cfg.unit,
        "neighbouring": f"one {cfg.unit} zeroed out at one site; the number of units is public",
        "epsilon_asked": cfg.epsilon or None,
        "noise_multiplier_asked": cfg.noise_multiplier or None,
        "delta": cfg.delta,
        "clip_norm": cfg.clip_norm,
        **({"clip_quantile": cfg.clip_quantile} if cfg.clip_quantile else {}),
        "patients_over_sites": "disjoint" if cfg.disjoint_patients else "shared",
        "accountant": "filter of planned runs and RDP at each site; PLD for the plan as a whole",
    }


def _with_start(facts: Mapping[str, Any], start: Provenance) -> dict[str, Any]:
    """Return the facts that change because the first weights cost privacy before."""
    if not start.epsilon:
        return {}
    names = ("epsilon", "epsilon_by_filter", "delta")
    added = {"epsilon": start.epsilon, "epsilon_by_filter": start.epsilon, "delta": start.delta}
    return {
        **{name: facts[name] + added[name] for name in names if name in facts},
        "epsilon_of_first_weights": start.epsilon,
        "delta_of_first_weights": start.delta,
    }


def _of_start(start: Provenance, cfg: PrivacyConfig, of_run: float | None) -> str:
    """Say what the first weights add, and what somebody stated of them."""
    if cfg.weights_without_patients:
        return (
            " Whoever began the run stated that none of its patients was in the training of its "
            "first weights; nothing of them is counted."
        )
    if not start.epsilon:
        return ""
    whole = "" if of_run is None else f", in all epsilon = {of_run + start.epsilon:.3g}"
    return (
        f" The run began with a model that private runs trained: their epsilon = "
        f"{start.epsilon:.3g} and delta = {start.delta:g} come on top{whole} at delta = "
        f"{cfg.delta + start.delta:g} for whoever was in both."
    )


@dataclass(frozen=True)
class _Site:
    row: tuple[str, ...]
    by_filter: float
    guarantee: Guarantee


def _ledgers(run_dir: Path) -> Sequence[Path]:
    return sorted(path.parent for path in run_dir.glob("sites/*/privacy/ledger.jsonl"))


def _site(folder: Path, delta: float) -> _Site | None:
    """Return what a ledger says; None where it cannot be read or has no charge."""
    try:
        with read_ledger(folder) as ledger:
            charges = ledger.charges()
            if not charges:
                return None
            version = charges[-1].version
            units, spent = ledger.account.versions[version], ledger.spent(version)
            runs = ledger.account.runs
    except PrimiaError:
        return None
    events = [charge.event for charge in charges]
    guarantee = _guarantee(runs, events, spent, delta)
    row = _row(folder.parent.name, units, events, spent, guarantee)
    return _Site(row, spent, guarantee)


def _row(
    name: str, units: int, events: Sequence[Any], spent: float, guarantee: Guarantee
) -> tuple[str, ...]:
    """Return the cells of a site under `HEADINGS`."""
    noise, rate = (getattr(events[-1], key, None) for key in ("noise_multiplier", "sampling_rate"))
    steps = sum(getattr(event, "steps", getattr(event, "rounds", 1)) for event in events)
    return (
        name,
        str(units),
        str(len(events)),
        f"{noise:.3g}" if noise else "-",
        f"{rate:.3g}" if rate else "-",
        str(steps),
        f"{spent:.3g}",
        f"{guarantee.epsilon:.3g} ({guarantee.accountant.upper()})",
    )


def _guarantee(
    runs: PlannedRuns, charged: Sequence[AnyEvent], spent: float, delta: float
) -> Guarantee:
    """Return what may be claimed: of a plan all of it, whether the run went to its end or not.

    With several plans, or charges beyond one, parameters may follow from what was seen: then it is
    what the filter counts. A ledger that knows no plans has its charges alone.
    """
    began = [planned.plan for planned in runs.plans if planned.began]
    if len(began) == 1 and not runs.beyond:
        return epsilon(began[0].events, delta=delta)
    return Guarantee(spent, delta, _FILTER) if began else epsilon(charged, delta=delta)


def _statement(cfg: PrivacyConfig, total: str) -> str:
    asked = (
        f"epsilon = {cfg.epsilon:g} at delta = {cfg.delta:g}"
        if cfg.epsilon
        else f"a noise multiplier of {cfg.noise_multiplier:g}, counted at delta = {cfg.delta:g}"
    )
    patients = (
        "It is assumed that no patient is at two sites; whoever is has the sum of both."
        if cfg.disjoint_patients
        else "Patients may be at several sites, so the sites' epsilons are added up."
    )
    mechanism = _MECHANISMS[cfg.mode].format(clip=_clip(cfg), knowing=cfg.max_knowing)
    return (
        f"This run was made with differential privacy for {_UNITS[cfg.unit]}. Two data sets are "
        "neighbours if they differ in one such unit, which is zeroed out: its place stays, and it "
        "adds nothing; so how many units a site has is the same in both, and public. "
        f"Asked for was {asked}, over all rounds. {total}{mechanism} Covered "
        f"is every number that left a site: the updates carry noise, {_statistics(cfg)}and nothing "
        "else is sent (no counts, losses, votes, validation). Each site charged its ledger before "
        "an update left, and refuses what would pass its own ceiling, also over several runs. "
        f"{patients} Not covered: that a site took part and when, how long it took, its number of "
        "units, what somebody publishes besides this run (scores on test images, models of other "
        "runs), and choices that people made by looking at the same patients' data."
    )


def _clip(cfg: PrivacyConfig) -> str:
    if not cfg.clip_quantile:
        return f"{cfg.clip_norm:g}"
    return (
        f"{cfg.clip_norm:g} at first, which then followed the units' norms (quantile "
        f"{cfg.clip_quantile:g}; how many were below it was counted with noise, within the same "
        "epsilon)"
    )


def _statistics(cfg: PrivacyConfig) -> str:
    if not cfg.statistics_noise:
        return "no statistics are asked for, "
    return f"so do the pixel statistics (noise multiplier {cfg.statistics_noise:g}), "


def _total(whole: Guarantee, cfg: PrivacyConfig) -> str:
    how = "the largest of the sites'" if cfg.disjoint_patients else "the sum of the sites'"
    counted = _FILTER in whole.accountant
    return (
        f"{'By the filter' if counted else 'As the plan was fixed beforehand'}, it cost epsilon = "
        f"{whole.epsilon:.3g} at delta = "
        f"{whole.delta:g} ({how}, {whole.accountant.upper()}). "
    )
