"""`model_card.md` and `model_card.json`: what a saved model is for, made of, and worth.

Every figure and fact is read from the run's folder; what is not there is said to be unknown.
The same folder gives the same text.

Source: Mitchell et al. 2019, Model Cards for Model Reporting, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from primia_flwr.models.card import weights_digest
from primia_flwr.reporting.chapters.privacy import privacy_account
from primia_flwr.reporting.page import render
from primia_flwr.runs.folder import RunFolder, plain_values, read_run_folder
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage.atomic import write_result
from primia_flwr.tasks.judge import with_words

_TEXT_FILE, _JSON_FILE = "model_card.md", "model_card.json"
_RECIPE = ("optimizer", "learning_rate", "batch_size", "local_epochs", "precision", "loss")
_SECURE = ("min_survivors", "max_colluding", "accept_two", "clip", "overflow", "degree")


def write_model_card(run_dir: Path) -> Path:
    """Write both files beside the model of a run and return the text's path.

    Raises
    ------
    DataError, CheckpointError
        If the folder has no model, a file in it cannot be read, or it cannot be written.
    """
    folder = read_run_folder(run_dir)
    card = model_facts(folder)
    text = render("model_card.md", task_template=folder.task.judge.template, **card)
    write_result(run_dir / _JSON_FILE, card)
    write_result(run_dir / _TEXT_FILE, text)
    return run_dir / _TEXT_FILE


def model_facts(folder: RunFolder) -> dict[str, Any]:
    """Return the content of model_card.json: plain values, a section a key."""
    run, config = folder.run, plain_values(folder.config)
    account = privacy_account(folder.path, config)
    chosen = read_json(folder.path / "result.json").get("values") or {}
    return {
        "model": _model(folder, config),
        "data": _data(folder, config),
        "training": _training(run, config, chosen),
        "metrics": _metrics(folder),
        "privacy": {
            "secure_aggregation": _secure(config),
            "seen": str(run.get("seen") or ""),
            "differential_privacy": account.facts if account else None,
            "statement": account.statement if account else "",
        },
    }


def _model(folder: RunFolder, config: Mapping[str, Any]) -> dict[str, Any]:
    run = folder.run
    return {
        "name": run.get("name", ""),
        "architecture": config.get("model", {}),
        "parameters": run.get("parameters"),
        "classes": run.get("classes", []),
        "image_size": config.get("data", {}).get("image_size"),
        "channels": config.get("data", {}).get("channels"),
        "pixel_mean": run.get("pixel_mean"),
        "pixel_std": run.get("pixel_std"),
        "sha256": weights_digest(folder.path),
        "first_weights": read_json(folder.path / "model.json").get("origin"),
        "trained": str(run.get("started", ""))[:10],
        "config_hash": _hash(folder),
        "git_commit": run.get("git_commit", ""),
        "versions": run.get("versions", {}),
    }


def _hash(folder: RunFolder) -> str:
    """Return the hash of the experiment that trained the model; of a search, the chosen one's."""
    own = read_json(folder.path / "model.json").get("config_hash")
    return own if isinstance(own, str) and own else str(folder.run.get("config_hash", ""))


def _data(folder: RunFolder, config: Mapping[str, Any]) -> dict[str, Any]:
    run = folder.run
    names = folder.task.label_names(run.get("classes", []))
    partition = config.get("data", {}).get("partition", {})
    return {
        "layout": run.get("data_layout", ""),
        "synthetic": bool(run.get("synthetic")),
        "generated": str(run.get("generated", "")),
        "simulated_sites": run.get("deployment") == "simulation",
        "partition": partition.get("kind", ""),
        "sites": run.get("sites", []),
        "class_counts_over_sites": dict(zip(names, run.get("label_counts") or [], strict=False)),
        "test": run.get("test"),
    }


def _training(
    run: Mapping[str, Any], config: Mapping[str, Any], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how the model was trained: the configuration, and what a search chose instead."""
    searched = {key.rpartition(".")[2]: v for key, v in chosen.items() if "training." in key}
    training = {**config.get("training", {}), **searched}
    return {
        "chosen_by_search": dict(chosen),
        "strategy": run.get("strategy", ""),
        "weighting": config.get("strategy", {}).get("weighting", ""),
        "rounds": run.get("rounds"),
        "best_round": run.get("best_round"),
        "seed": run.get("seed"),
        "recipe": {key: training[key] for key in _RECIPE if key in training},
    }


def _metrics(folder: RunFolder) -> dict[str, Any] | None:
    """Return the federated model's figures, with intervals where there are some."""
    scores, evidence = folder.results.get("Federated"), folder.evidence
    if scores is None:
        return None
    judge, figures = folder.task.judge, scores.figures()
    known = evidence.figures["Federated"] if evidence else {}
    return {
        "images": scores.n,
        "figures": {metric.name: figures[metric.name] for metric in judge.tested},
        "patients": evidence.patients if evidence else None,
        "intervals": {name: with_words(found) for name, found in known.items()},
        **judge.card(scores, evidence),
    }


def _secure(config: Mapping[str, Any]) -> dict[str, Any] | None:
    secure = config.get("aggregation", {})
    if secure.get("name") not in ("secure", "buffered"):
        return None
    return {key: secure[key] for key in _SECURE if key in secure}
