"""Score, in a simulation, the models that the sites saved with their own layers in them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from primia_flwr.models import load_model
from primia_flwr.models.card import CARD_FILE, ModelCard
from primia_flwr.tasks.judge import ModelScores

_Score = Callable[[nn.Module, ModelCard, Path], ModelScores]


def score_own_models(run_dir: Path, sites: Iterable[str], score: _Score) -> dict[str, Any]:
    """Return the scores of each site's own model by its name; not of one that saved none.

    Parameters
    ----------
    run_dir : Path
        The run's, into which `predictions-<site>.csv` is written.
    sites : iterable of str
        Their names.
    score : callable
        Given a model, its card, and where to write the predictions.
    """
    found: dict[str, Any] = {}
    for site in sites:
        folder = run_dir / "sites" / site / "model"
        if (folder / CARD_FILE).is_file():
            model, card = load_model(folder)
            found[site] = score(model, card, run_dir / f"predictions-{site}.csv").to_dict()
    return found
