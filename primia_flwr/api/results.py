"""What `pf.train`, `pf.evaluate`, `pf.predict` and `pf.compare` return."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Wherever a path is expected, it stands for its folder: `pf.evaluate(run)`,
    `pf.load_model(Path(run))`.

    Attributes
    ----------
    folder : Path
        Model, history, predictions and report; docs/run-folder.md names every file.
    report : Path
        The page to open in a browser.
    figures : mapping
        The federated model's figures on the test set by name, e.g. `run.figures["mcc"]`; None
        where one is not defined. Empty without a test set, as for a deployment.
    baselines : mapping
        The same of each model that `baselines` asked for: `"site-1 local"`, `"Centralised"`.
    history : tuple of mappings
        One entry a round, e.g. `train_loss`, `val_mcc`, `seconds`; None where nothing is known.
    best_round : int
        The round whose model was kept.
    seconds : float
        How long all of it took.
    synthetic : bool
        Whether the images were drawn by formula.
    """

    folder: Path
    report: Path
    figures: Figures
    baselines: Mapping[str, Figures]
    history: tuple[Figures, ...]
    best_round: int
    seconds: float
    synthetic: bool

    def __fspath__(self) -> str:
        """Return the folder, for whoever wants a path."""
        return str(self.folder)


@dataclass(frozen=True)
class Evaluation:
    """One model's scores on some images.

    Attributes
    ----------
    folder : Path
        Holds `metrics.json` and `predictions.csv`.
    n : int
        Images.
    figures : mapping
        By name, e.g. `mcc`, `accuracy`, `roc_auc`; None where one is not defined.
    notes : tuple of str
        Why figures are missing.
    warning : str
        Whether some images may have been trained on, or were left out; else empty.
    synthetic : bool
        Whether the images were drawn by formula.
    """

    folder: Path
    n: int
    figures: Figures
    notes: tuple[str, ...]
    warning: str
    synthetic: bool


@dataclass(frozen=True)
class PredictedImages:
    """What a model says of images without labels.

    Attributes
    ----------
    folder : Path
        Holds `predictions.csv` and `predictions.json`.
    classes : tuple of str
        Of the model.
    images : tuple of mappings
        One entry an image: `file`, `prediction`, a probability `p_<class>` for each class,
        `plausible`. A pandas table: `pandas.DataFrame(result.images)`.
    skipped : mapping
        File -> why it could not be read.
    """

    folder: Path
    classes: tuple[str, ...]
    images: tuple[Mapping[str, Any], ...]
    skipped: Mapping[str, str]


@dataclass(frozen=True)
class ComparedRuns:
    """Models, and perhaps people, on the same images.

    Attributes
    ----------
    folder : Path
        JSON, tables, pictures.
    report : Path
        The page to open in a browser.
    answer : str
        Whether one is better, in one sentence.
    figures : mapping
        Of each reader by its name: figures with 95 % intervals, as comparison.json holds them.
    values : mapping
        All of comparison.json: pairs and their tests, calibration, operating points, notes.
    """

    folder: Path
    report: Path
    answer: str
    figures: Mapping[str, Any]
    values: Mapping[str, Any]
