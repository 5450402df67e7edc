"""Privacy-preserving medical image analysis on Flower: what a notebook needs, under one name.

Each name of `__all__` is looked up when it is first used, so the import takes no time and loads
no heavy package. Notebooks and scripts import from here (docs/python-api.md); the rooms import
each other by their full names, and from here only `__version__`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "config.experiment.schema": ("Experiment",),
    "config.load": ("compose_experiment", "load_experiment", "to_yaml"),
    "data.dataset": ("LabelledImages", "SiteData", "load_images", "load_site", "load_test"),
    "data.layouts.readers": ("read_manifest",),
    "data.manifest": ("Manifest",),
    "errors": ("ConfigError", "DataError", "PrimiaError"),
    "models.card": ("ModelCard",),
    "models.registry": ("build_model",),
    "models.saved": ("load_model", "save_model"),
    "pipeline.experiment": ("run_experiment",),
    "pipeline.scoring": ("score_model",),
    "privacy.accounting.accountant": ("Guarantee", "epsilon", "noise_multiplier_for"),
    "privacy.accounting.events": ("SampledGaussian",),
    "runs.folder": ("RunFolder", "read_run_folder"),
    "tasks.classes.readers.compare": ("compare",),
    "tasks.judge": ("Comparison", "Settings"),
    "tasks.predictions": ("Predictions", "Reading"),
    "training.baselines": ("train_centralised", "train_local"),
    "training.evaluate": ("evaluate", "predict"),
    "training.fit": ("fit",),
    "training.normalisation": ("Normalisation",),
    "training.plan": ("plan_round",),
    "training.recipe": ("Recipe",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(["__version__", *_ROOM_OF])


def __getattr__(name: str) -> Any:
    """Load a public name on its first use; the next ones find it here."""
    if name not in _ROOM_OF:
        raise AttributeError(f"primia_flwr has no {name!r}; see primia_flwr.__all__")
    found = getattr(importlib.import_module(f"primia_flwr.{_ROOM_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return what a notebook offers after `primia_flwr.`."""
    return list(__all__)
