"""`primia attack`: rebuild images from the bytes that a simulation's coordinator received."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from primia_flwr.cli.analysis.attack_result import Given, given_networks, show, write
from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.stored import read_config
from primia_flwr.errors import ConfigError
from primia_flwr.extras import need

# As in attacks.targets, which is not imported here: --help must not wait for PyTorch.
TARGET_NAMES = (
    "single_image",
    "batch",
    "received_update",
    "relayed_model",
    "masked_update",
    "secure_sum",
    "crafted_model",
    "local_model",
)
_NO_LPIPS = "left out: no weights are given"


@dataclass
class AttackConfig:
    """Which run, which of its bytes, and how long to search."""

    run: str = ""
    target: str = "received_update"
    images: int = 6
    per_update: int = 3
    method: str = "spectral"
    iterations: int = 500
    restarts: int = 1
    step_size: float = 0.05
    total_variation: float = 1.0
    crafted: str = "norm"
    batch_norm: str = "unknown"
    batch_statistics: float = 0.1
    leave_out: list[str] = field(default_factory=list)
    control: bool = True
    features: str = ""
    inception: str = ""
    lpips: str = ""
    seed: int = 1
    device: str = "auto"
    output: str = ""
    dry_run: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_choice("target", self.target, TARGET_NAMES)
        check_choice("crafted", self.crafted, ("norm", "within_bounds"))
        check_choice("batch_norm", self.batch_norm, ("unknown", "known"))
        check_choice("method", self.method, ("spectral", "paper"))
        check_choice("device", self.device, ("auto", "cpu", "cuda"))
        check_range("images", self.images, 1, 10_000, example=6)
        check_range("per_update", self.per_update, 1, 256, example=3)
        check_range("iterations", self.iterations, 1, 1_000_000, example=500)
        check_range("restarts", self.restarts, 1, 1000, example=2)
        check_range("step_size", self.step_size, 0, 10, example=0.1, open_low=True)
        check_range("total_variation", self.total_variation, 0, 1e6, example=0.5)
        check_range("batch_statistics", self.batch_statistics, 0, 1e6, example=0.1)
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)
        if "" in self.leave_out:
            raise ConfigError(
                "leave_out has an empty name; expected prefixes of parameters, e.g. [layer4]"
            )


def run(cfg: AttackConfig) -> dict[str, Any]:
    """Attack the run; write figures, pictures, a page and the reconstructions.

    Raises
    ------
    ConfigError, CheckpointError, DataError
        If the run was not recorded, has no such target, or its data are not there any more.
    """
    for package in ("torchmetrics", "statsmodels"):
        need(package, "primia attack")
    run_dir = _existing_run("run", cfg.run)
    features = _existing_run("features", cfg.features) if cfg.features else run_dir
    folder = Path(cfg.output).expanduser() if cfg.output else run_dir / "attack" / _name(cfg)
    folder = folder.resolve()
    campaign = _campaign(cfg, run_dir, folder)
    jobs = campaign.jobs(cfg.images, control=cfg.control)
    if cfg.dry_run:
        return _planned(cfg, jobs, folder)
    given = given_networks(cfg.lpips, cfg.inception, campaign.experiment.data.image_size)
    finished = _invert(cfg, campaign, jobs)
    result = _written(cfg, campaign, finished, features, given, folder)
    show(result, quiet=cfg.quiet)
    keys = ("run", "target", "output", "arms", "tests", "sums", "synthetic")
    return {key: result[key] for key in keys if key in result}


def _name(cfg: AttackConfig) -> str:
    return f"{cfg.target}-{cfg.crafted}" if cfg.target == "crafted_model" else cfg.target


def _campaign(cfg: AttackConfig, run_dir: Path, folder: Path) -> Any:
    """Open the run and return the attack on it."""
    from primia_flwr.attacks.crafted.runner import CraftedAttackRunner
    from primia_flwr.attacks.inversion.runner import AttackRunner
    from primia_flwr.attacks.one_class import check_one_class
    from primia_flwr.models.saved import load_model
    from primia_flwr.runs.received import rounds_of
    from primia_flwr.training.device import pick_device
    from primia_flwr.training.normalisation import Normalisation

    crafted = cfg.target == "crafted_model"
    if not crafted:
        rounds_of(run_dir)
    experiment = read_config(run_dir / "config.yaml")
    check_one_class(experiment)
    model, card = load_model(run_dir, single=True)
    scale, device = Normalisation(card.mean, card.std), pick_device(cfg.device, key="device")
    kind = CraftedAttackRunner if crafted else AttackRunner
    return kind(run_dir, experiment, model, scale, _settings_of(cfg), folder, device)


def _settings_of(cfg: AttackConfig) -> Any:
    from primia_flwr.attacks.inversion.config import InversionConfig
    from primia_flwr.attacks.inversion.runner import AttackSettings

    return AttackSettings(
        target=cfg.target,
        search=InversionConfig(
            method=cfg.method,
            iterations=cfg.iterations,
            restarts=cfg.restarts,
            step_size=cfg.step_size,
            total_variation=cfg.total_variation,
            batch_statistics=cfg.batch_statistics,
        ),
        batch_norm=cfg.batch_norm,
        per_update=cfg.per_update,
        leave_out=tuple(cfg.leave_out),
        seed=cfg.seed,
        crafted=cfg.crafted,
    )


def _existing_run(key: str, value: str) -> Path:
    """Return the folder of a run."""
    if not value:
        raise ConfigError(
            f"{key} is empty; expected the output folder of a run with "
            "debug.record_received=true, e.g. run=outputs/2026-01-31/12-00-00-demo"
        )
    path = Path(value).expanduser().resolve()
    if not path.is_dir():
        raise ConfigError(f"{key}={value}; expected an existing output folder; correct the path")
    return path


def _planned(cfg: AttackConfig, jobs: Sequence[Any], folder: Path) -> dict[str, Any]:
    steps = cfg.iterations * cfg.restarts * len(jobs)
    return {
        "dry_run": True,
        "target": cfg.target,
        "updates": [f"{job.arm}: {job.name}, round {job.server_round}" for job in jobs],
        "iterations": steps,
        "output": str(folder),
    }


def _invert(cfg: AttackConfig, campaign: Any, jobs: Sequence[Any]) -> list[Any]:
    """Invert one update after the other, with a bar for each on a terminal."""
    console, finished = Console(stderr=True, quiet=cfg.quiet, emoji=False), []
    with _bars(console) as progress:
        whole = progress.add_task("updates", total=len(jobs), note="")
        one = progress.add_task("steps", total=cfg.iterations * cfg.restarts, note="")
        for job in jobs:
            progress.update(one, completed=0, description=f"  {job.arm} {job.name}", note="")

            def on_step(step: int, objective: float) -> None:
                progress.update(one, completed=step, note=f"objective {objective:.3f}")

            found = campaign.run(job, on_step)
            finished.append(found)
            progress.advance(whole)
            if not console.is_terminal:
                state, distance = "kept" if found.kept else "done", found.reconstruction.distance
                of = f"{job.arm}, {job.name}, round {job.server_round}"
                console.print(f"{state}: {of}: cosine distance {distance:.3f}", markup=False)
    return finished


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


def _written(
    cfg: AttackConfig,
    campaign: Any,
    finished: Sequence[Any],
    features: Path,
    given: Given,
    folder: Path,
) -> dict[str, Any]:
    """Score, and write everything there is to look at."""
    from primia_flwr.attacks.inversion.pictures import grid
    from primia_flwr.attacks.inversion.scoring.identification import Gallery
    from primia_flwr.attacks.inversion.scoring.scores import PooledFeatures, pairs_of, summary
    from primia_flwr.models.saved import load_model
    from primia_flwr.training.normalisation import Normalisation

    model, card = load_model(features, single=True)
    extractor = PooledFeatures(model, Normalisation(tuple(card.mean), tuple(card.std)))
    gallery = Gallery(campaign.data.gallery(), extractor)
    truths = [campaign.truth(campaign.seen(f.job.name, f.job.server_round)) for f in finished]
    found = zip(finished, truths, strict=True)
    pairs = [pair for f, truth in found for pair in pairs_of(f, truth, gallery, given.lpips)]
    right = _right_labels(finished, truths)
    own = f"pooled features of {card.model.name}, round {card.round}: {cfg.features or cfg.run}"
    result = {
        **_settings(cfg, given, own),
        "output": str(folder),
        "synthetic": campaign.data.synthetic,
        **summary(pairs, gallery, given.inception or extractor, right),
        **({"sums": campaign.sums()} if cfg.target == "crafted_model" else {}),
        "images": [pair.facts() for pair in pairs],
        "objectives": [
            {"arm": f.job.arm, "update": f.job.name, "round": f.job.server_round,
             "cosine_distance": f.reconstruction.distance, "of_starts": f.reconstruction.objectives}
            for f in finished
        ],
    }  # fmt: skip
    write(folder, result, pairs, grid(pairs, synthetic=campaign.data.synthetic))
    return result


def _right_labels(finished: Sequence[Any], truths: Sequence[Any]) -> dict[str, float]:
    """Return, by arm, the share of labels that the attack found."""
    from primia_flwr.attacks.inversion.scoring.scores import share_of_labels

    arms = defaultdict[str, list[tuple[Any, Any]]](list)
    for one, truth in zip(finished, truths, strict=True):
        arms[one.job.arm].append((one, truth))
    return {arm: share_of_labels(*zip(*both, strict=True)) for arm, both in arms.items()}


def _settings(cfg: AttackConfig, given: Given, own_features: str) -> dict[str, Any]:
    """Return what was attacked, how, and by which networks images are compared."""
    keys = (
        "method", "iterations", "restarts", "step_size", "total_variation", "batch_norm",
        "batch_statistics", "per_update", "leave_out", "seed",
        *(["crafted"] if cfg.target == "crafted_model" else []),
    )  # fmt: skip
    inception = f"Inception v3, {cfg.inception}"
    return {
        "run": cfg.run,
        "target": cfg.target,
        "settings": {key: getattr(cfg, key) for key in keys},
        "features": own_features,
        "frechet_features": inception if given.inception else own_features,
        "lpips": f"version 0.1, AlexNet, {cfg.lpips}" if given.lpips else _NO_LPIPS,
    }


COMMAND = Command(
    words=("attack",),
    summary="rebuild images from what the coordinator of a recorded simulation received",
    examples=(
        "primia train aggregation=plain debug.record_received=true output_dir=outputs/a",
        "primia attack run=outputs/a target=received_update",
        "primia attack run=outputs/a target=received_update images=12 iterations=2000 restarts=4",
        "primia attack run=outputs/b target=secure_sum dry_run=true",
        "primia attack run=outputs/c target=relayed_model",
        "primia attack run=outputs/b target=crafted_model crafted=within_bounds",
    ),
    config_name="commands/analysis/attack",
    schema=AttackConfig,
    run=run,
    positional="run",
)
