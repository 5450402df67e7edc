"""What a run needs of the coordinator's machine, asked before anything is written."""

from itertools import islice
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rows import LAYOUTS
from primia_flwr.data.files.listing import holds_images
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.data.reading.common import existing_root
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.extras import need
from primia_flwr.runs.tracking_mode import check_server

_FEW, _SMALL_TABLE = 1000, 100_000  # files; bytes
_TRACES = ("run.json", "events.jsonl", "*/run.json", "*/events.jsonl")


def check_extras(experiment: Experiment, *, own_sites: bool = False, scored: bool = True) -> None:
    """Refuse a run that would end at a package, a GPU or a folder which is not there.

    Parameters
    ----------
    experiment : Experiment
        As the user composed it.
    own_sites : bool
        The sites are real SuperNodes, but of this machine: a trial.
    scored : bool
        Whether there will be test images to score; a trial of a search has none.

    Raises
    ------
    MissingExtraError
        If a package is missing.
    ConfigError, DataError
        If a GPU is asked for that is not there, or a folder or file of images.
    TrackingError
        If online tracking is asked for and there is no key, or the server refuses it.
    """
    here = own_sites or experiment.deployment.kind == "simulation"
    shown = experiment.report.saliency if experiment.task.explained else 0
    if here and not own_sites:
        need("ray", "deployment=simulation")
        _check_gpu(experiment)
    if here and scored and shown:
        need("captum", f"report.saliency={shown}", instead="report.saliency=0")
    if here and experiment.privacy.engine == "opacus":
        need("opacus", "privacy.engine=opacus", instead="privacy.engine=ghost")
    if experiment.search.enabled:
        need("optuna", f"search.population={experiment.search.population}")
    check_server(experiment.tracking)
    if here:
        _check_data(experiment.data)


def check_new_folder(folder: Path, key: str) -> None:
    """Refuse to train into a folder, or into one below it, that holds a run; `key` names it.

    Raises
    ------
    ConfigError
        Naming the run, and the two ways on.
    """
    found = next((file.parent for name in _TRACES for file in sorted(folder.glob(name))), None)
    if found is not None and key == "hydra.sweep.dir":
        raise ConfigError(
            f"{key}={folder}: {found} holds a run; expected a new folder, since no run is trained "
            f"over; go on with all by primia train -m resume={folder}, or give another {key}"
        )
    if found is not None:
        raise ConfigError(
            f"{key}={folder}: {found} holds a run; expected a new folder, since no run is trained "
            f"over; go on with that one by resume={found}, or give another {key}"
        )


def _check_gpu(experiment: Experiment) -> None:
    if experiment.federation.gpus_per_site or experiment.training.device.startswith("cuda"):
        from primia_flwr.flower.shares import shares  # PyTorch

        shares(experiment)


def _check_data(cfg: DataConfig) -> None:
    """Refuse a folder or table of images that is not there, or none where the layout needs one."""
    if cfg.manifest and not Path(cfg.manifest).expanduser().is_file():
        raise DataError(
            f"data.manifest={cfg.manifest}; expected an existing CSV file; correct the path"
        )
    if cfg.layout == "manifest" and not cfg.manifest:
        raise ConfigError("data.manifest is empty; expected a CSV file, e.g. data.manifest=a.csv")
    reads_files = cfg.layout != "synthetic" and cfg.layout not in LAYOUTS.plugins()
    root = existing_root(cfg) if cfg.root or (reads_files and not cfg.manifest) else None
    if reads_files and _is_soon_listed(root, cfg.manifest):
        read_manifest(cfg, seed=0)


def _is_soon_listed(root: Path | None, table: str) -> bool:
    """Say whether images are so few that a mistake can be told before PyTorch is imported."""
    if table:
        return Path(table).expanduser().stat().st_size <= _SMALL_TABLE
    few = len(list(islice(root.rglob("*"), _FEW + 1))) <= _FEW if root else False
    return root is not None and (few or not holds_images(root))
