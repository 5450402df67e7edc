"""What a search found: `sweep.json`, and the best point as an experiment that can be run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import yaml
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment, parse
from primia_flwr.config.search.space import Space
from primia_flwr.config.search.sweep import SweepConfig
from primia_flwr.search.study import answered, best_trial, objective_of, outcome
from primia_flwr.storage.atomic import write_atomic
from primia_flwr.tasks.task import Metric

# Of this machine, of this call, or without effect on the result: not of the experiment found.
_LEFT_OUT = ("output_dir", "resume", "dry_run", "quiet", "baselines", "tracking", "deployment")
_LEFT_OUT_OF_DATA = ("root", "manifest", "cache_dir", "workers")
_HEAD = """\
# @package _global_
# Found by a search: {objective}, {value:.4f} in trial {number}
# of {trials}. All that differs from the defaults of conf/; use it as
# primia train experiment={path} data.root=...
"""


def record(
    study: optuna.Study, space: Space, cfg: SweepConfig, folder: Path, metric: Metric
) -> dict[str, Any]:
    """Return the content of sweep.json: the question, every trial, and the best."""
    trials = [_trial(trial, space, folder, metric) for trial in answered(study)]
    best, first = best_trial(study), next((t for t in trials if t["default"]), None)
    return {
        "folder": str(folder),
        "objective": objective_of(metric),
        "sampler": cfg.sampler,
        "pruner": cfg.pruner,
        "optuna": optuna.__version__,
        "space": space.to_dict(),
        "outcomes": dict(Counter(trial["outcome"] for trial in trials)),
        "default": None if first is None else first[metric.column],
        "best": None if best is None else _trial(best, space, folder, metric),
        "trials": trials,
    }


def summary(found: Mapping[str, Any], metric: Metric) -> dict[str, Any]:
    """Return the one JSON line of a search; `ok` is false where no trial is complete."""
    best = found["best"] or {}
    return {
        "sweep": found["folder"],
        "trials": len(found["trials"]),
        **found["outcomes"],
        "best_trial": best.get("trial"),
        f"best_{metric.column}": best.get(metric.column),
        f"default_{metric.column}": found["default"],
        "best": best.get("values"),
        "experiment": best.get("experiment"),
        "ok": bool(best),
    }


def write_best(folder: Path, base: Experiment, found: Mapping[str, Any]) -> Path:
    """Write `experiment/best.yaml`: the base with the best values, as a delta.

    The file holds what differs from the defaults of `conf/`, so it stands for itself; where the
    data lie, what is tracked and where the run happens are left to the command line.
    """
    tree = OmegaConf.structured(base)
    for name, value in found["best"]["values"].items():
        OmegaConf.update(tree, name, value, merge=False)
    wanted = _settings(parse(Experiment, tree))
    delta = _delta(wanted, _settings(compose_experiment()))
    path = folder / "experiment" / "best.yaml"
    path.parent.mkdir(exist_ok=True)
    head = _HEAD.format(
        objective=found["objective"],
        value=found["best"][base.task.aim.column],
        number=found["best"]["trial"],
        trials=len(found["trials"]),
        path=path,
    )
    write_atomic(path, head + yaml.safe_dump(delta, sort_keys=False))
    return path


def _trial(trial: FrozenTrial, space: Space, folder: Path, metric: Metric) -> dict[str, Any]:
    attributes = trial.user_attrs
    return {
        "trial": trial.number,
        "outcome": outcome(trial),
        metric.column: trial.value if outcome(trial) == "complete" else None,
        "rounds": attributes.get("rounds", 0),
        "seconds": attributes.get("seconds"),
        "reason": attributes.get("reason", ""),
        "default": bool(attributes.get("default", False)),
        "folder": str(folder / str(trial.number)),
        "values": space.decode(trial.params),
        f"{metric.column}_by_round": {
            str(k): v for k, v in sorted(trial.intermediate_values.items())
        },
    }


def _settings(experiment: Experiment) -> dict[str, Any]:
    settings = asdict(experiment)
    for key in _LEFT_OUT:
        del settings[key]
    for key in _LEFT_OUT_OF_DATA:
        del settings["data"][key]
    del settings["aggregation"]["run"]
    return settings


def _delta(wanted: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, value in wanted.items():
        if key in known and value == known[key]:
            continue
        section = isinstance(value, dict)
        changed[key] = _delta(value, known.get(key) or {}) if section else value
    return changed
