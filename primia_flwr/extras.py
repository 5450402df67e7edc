"""What the base install does not bring: packages of the optional extras, asked for before use.

A hospital's site needs none of them. Each is imported in one place, where it is needed; whoever is
about to need it says so first, so that a missing one is one sentence and nothing is written.
"""

from importlib.util import find_spec

from primia_flwr.errors import MissingExtraError

# package: the extra of pyproject.toml that brings it
EXTRAS = {
    "ray": "simulation",
    "wandb": "tracking",
    "optuna": "search",
    "crypten": "inference",
    "captum": "analysis",
    "statsmodels": "analysis",
    "torchmetrics": "analysis",
    "nibabel": "nifti",
    "highdicom": "segmentations",
    "opacus": "dev",
}


def installed(package: str) -> bool:
    """Return whether a package of an extra is installed, without importing it."""
    return find_spec(package) is not None


def need(package: str, asked: str, *, instead: str = "") -> None:
    """Refuse what needs a package that is not installed.

    `package`: a name in `EXTRAS`. `asked`: what needs it, as the user typed it, e.g.
    `protocol=crypten`. `instead`: what does without it, if anything, e.g. `report.saliency=0`.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    if installed(package):
        return
    extra = EXTRAS[package]
    remedy = f"; or use {instead}" if instead else ""
    raise MissingExtraError(
        f"{asked} needs {package}, which is not installed; expected the extra {extra}: "
        f"pip install 'primia-flwr[{extra}]'{remedy}"
    )
