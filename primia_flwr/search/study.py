"""The study of a search: Optuna's trials in one SQLite file that survives a crash.

Ask and tell: Optuna proposes a point, a whole federated run says how good it is. A trial that
was running when the search died is marked as failed, and its point is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from primia_flwr.config.search.space import Space
from primia_flwr.config.search.sweep import SweepConfig
from primia_flwr.errors import ConfigError
from primia_flwr.tasks.task import Metric

STUDY_FILE = "study.db"
# What became of a trial, kept as its user attribute `outcome`.
COMPLETE, PRUNED, DIVERGED, INVALID, FAILED = (
    "complete",
    "pruned",
    "diverged",
    "invalid",
    "failed",
)
_INTERRUPTED = "interrupted"

_SAMPLERS: dict[str, Callable[[SweepConfig, int], BaseSampler]] = {
    "tpe": lambda cfg, seed: TPESampler(n_startup_trials=cfg.random_trials, seed=seed),
    "random": lambda cfg, seed: RandomSampler(seed=seed),
}
_PRUNERS: dict[str, Callable[[SweepConfig], BasePruner]] = {
    "median": lambda cfg: MedianPruner(
        n_startup_trials=cfg.prune_after_trials, n_warmup_steps=cfg.prune_after_rounds + 1
    ),
    "asha": lambda cfg: SuccessiveHalvingPruner(
        min_resource=cfg.prune_after_rounds + 1, reduction_factor=3
    ),
    "none": lambda cfg: NopPruner(),
}


def open_study(
    folder: Path, cfg: SweepConfig, space: Space, base: Mapping[str, Any], metric: Metric
) -> optuna.Study:
    """Open the study of a search folder, or begin one, and put its unfinished trials in order.

    Parameters
    ----------
    folder : Path
        The search's folder, which exists.
    cfg : SweepConfig
        Sampler and pruner; they may differ from those of earlier calls.
    space : Space
        What may vary.
    base : mapping
        The experiment's settings that decide a result, as plain values.
    metric : Metric
        By which a run is judged.

    Raises
    ------
    ConfigError
        If the file is no study, or one of another space, objective or experiment.
    """
    path = folder / STUDY_FILE
    begun = path.exists()
    question = {"space": space.to_dict(), "objective": objective_of(metric), "base": _flat(base)}
    study, known = _stored(path, metric)
    if begun and known is not None:
        _check_same_question(path, known, question)
    else:
        study.set_user_attr("question", json.dumps(question))
    # A seed that starts again would draw the first points again.
    seed = (cfg.seed + len(study.get_trials(deepcopy=False))) % 2**32
    study.sampler = _SAMPLERS[cfg.sampler](cfg, seed)
    study.pruner = _PRUNERS[cfg.pruner](cfg)
    _requeue_unfinished(study)
    return study


def objective_of(metric: Metric) -> str:
    """Return what a search is after, in words."""
    return f"{metric.best_words} of a round, aggregated over the sites"


def _requeue_unfinished(study: optuna.Study) -> None:
    """Mark trials that never ended as interrupted, and have their points asked again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        live = optuna.trial.Trial(study, trial._trial_id)
        live.set_user_attr("outcome", _INTERRUPTED)
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            kept = {k: v for k, v in trial.user_attrs.items() if k == "default"}
            study.enqueue_trial(trial.params, user_attrs=kept)


def answered(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have ended by themselves, by number."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and outcome(trial) != _INTERRUPTED
    ]


def outcome(trial: FrozenTrial) -> str:
    """Return what became of a trial."""
    return str(trial.user_attrs.get("outcome", _INTERRUPTED))


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the complete trial with the best objective, the earliest of equals."""
    sign = 1 if study.direction is StudyDirection.MAXIMIZE else -1
    complete = [t for t in answered(study) if t.state is TrialState.COMPLETE]
    return max(complete, key=lambda t: (sign * (t.value or 0.0), -t.number), default=None)


def _stored(path: Path, metric: Metric) -> tuple[optuna.Study, Any]:
    """Return the study of a file, which may be new, and the question that it answers."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = StudyDirection.MAXIMIZE if metric.higher_is_better else StudyDirection.MINIMIZE
    try:
        url = URL.create("sqlite", database=str(path.resolve()))
        storage = optuna.storages.RDBStorage(url.render_as_string())
        study = optuna.create_study(
            storage=storage, study_name="primia", load_if_exists=True, direction=direction
        )
        return study, json.loads(study.user_attrs.get("question", "null"))
    except Exception as error:
        raise ConfigError(
            f"{path} cannot be opened as a study ({_first_line(error)}); expected the file that a "
            "search wrote; begin a new search without sweep.resume"
        ) from None


def _check_same_question(path: Path, known: Mapping[str, Any], question: Mapping[str, Any]) -> None:
    for what in ("objective", "space", "base"):
        if known.get(what) == question[what]:
            continue
        name = "experiment" if what == "base" else what
        raise ConfigError(
            f"{path} is a study of another {name}{_difference(known.get(what), question[what])}; "
            "expected the same question, because its trials are not comparable with new ones; "
            "begin a new search without sweep.resume"
        )


def _difference(known: object, asked: object) -> str:
    """Return the first key that differs, with both values."""
    if not isinstance(known, dict) or not isinstance(asked, dict):
        return ""
    key = next(k for k in (*known, *asked) if known.get(k) != asked.get(k))
    was, now = (json.dumps(values.get(key)) for values in (known, asked))
    return f" ({key} was {was}, now {now})"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
