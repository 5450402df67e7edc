"""Privacy-preserving medical image analysis on Flower: `train`, `evaluate`, `predict`, `compare`.

Notebooks and scripts import from here (docs/python-api.md, docs/tutorial.ipynb). A name of
`__all__` is loaded on its first use, so the import takes no time; `__init__.pyi` tells their
types. The rooms import each other by their full names, and from here only `__version__`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "api.analysis": ("compare", "evaluate", "predict"),
    "api.results": ("ComparedRuns", "Evaluation", "PredictedImages", "TrainedRun"),
    "api.training": ("open_run", "train"),
    "config.experiment.schema": ("Experiment",),
    "config.load": ("compose_experiment", "load_experiment", "to_yaml"),
    "data.dataset": ("LabelledImages", "SiteData", "load_images", "load_site", "load_test"),
    "data.reading.any_layout": ("read_manifest",),
    "data.manifest": ("Manifest",),
    "errors": ("ConfigError", "DataError", "PrimiaError"),
    "models.card": ("ModelCard",),
    "models.registry": ("build_model",),
    "models.saved": ("load_model", "save_model"),
    "pipeline.scoring": ("score_model",),
    "privacy.accounting.accountant": ("Guarantee", "epsilon", "noise_multiplier_for"),
    "privacy.accounting.events": ("SampledGaussian",),
    "training.baselines": ("train_centralised", "train_local"),
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
