"""`primia train`: one experiment from its data to its report, or a sweep of them."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from primia_flwr.cli.command import Command, call, finish, interrupted, mistake, with_json
from primia_flwr.cli.stopping import Stopping
from primia_flwr.cli.train.live import LiveView
from primia_flwr.cli.train.resume import lengthen, longer, resumed
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, compose_experiment, config_hash, parse
from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.extras import need
from primia_flwr.pipeline.needed import check_extras, check_new_folder
from primia_flwr.storage.atomic import make_folder, writing

_MULTIRUN = ("-m", "--multirun")
_WRITABLE = "expected a folder that can be made; give another by output_dir=<folder>"
_HYDRAS_FOLDER = ("hydra.run.dir", "hydra.runtime.output_dir")


def main(arguments: Sequence[str]) -> int:
    """Run `primia train` with the user's arguments and return the exit code."""
    if any(flag in arguments for flag in _MULTIRUN):
        try:
            words, whole = with_json([word for word in arguments if word not in _MULTIRUN])
            return finish(_many(words), whole=whole)
        except KeyboardInterrupt:
            return interrupted()
        except PrimiaError as error:
            return mistake(error)
    try:
        return call(COMMAND, arguments if "--help" in arguments else of_one_run(arguments))
    except ConfigError as error:
        return mistake(error)


def of_one_run(words: Sequence[str]) -> list[str]:
    """Return the words of one run, Hydra's names among them as ours.

    Raises
    ------
    ConfigError
        If they ask for a search, which is many runs.
    """
    searching = next((word for word in words if word.startswith(("sweep=", "sweep."))), None)
    if searching:
        raise ConfigError(f"{searching} without -m; expected primia train -m {searching} ...")
    return [_as_output_dir(word) for word in longer(words)]


def _as_output_dir(word: str) -> str:
    """Take Hydra's own name for the folder of a run for ours."""
    key, equals, folder = word.partition("=")
    return f"output_dir={folder}" if equals and key in _HYDRAS_FOLDER else word


def _many(words: Sequence[str]) -> dict[str, Any]:
    """Run a search, or every combination of listed values; a search brings Optuna along."""
    from primia_flwr.cli.train.many_words import checked_words  # Hydra

    if any(word.startswith(("sweep=", "sweep.")) for word in words):
        need("optuna", "a search (sweep=...)")
        asked = checked_words(words, search=True)
        from primia_flwr.cli.train.search import run_search_over  # PyTorch

        return run_search_over(asked)
    from primia_flwr.cli.train.multirun import go_on, run_multirun

    if folder := _sweep_to_resume(words):
        own = [word for word in words if not word.startswith("resume=")]
        return go_on(folder, own, _job_gone_on_with)
    return run_multirun(words, _one_job)


def _sweep_to_resume(words: Sequence[str]) -> Path | None:
    """Return the folder of the sweep that is to go on, None where a new one is asked for.

    Raises
    ------
    ConfigError
        If other keys are given: a sweep goes on as it was begun.
    """
    asked = [word.removeprefix("resume=") for word in words if word.startswith("resume=")]
    if not asked or not asked[-1]:
        return None
    others = [word for word in words if not word.startswith(("resume=", "quiet="))]
    if others:
        raise ConfigError(
            f"{others[0]} with -m resume={asked[-1]}, which goes on as it was begun; expected no "
            "other key but quiet; start a new sweep to change them"
        )
    return Path(asked[-1]).expanduser()


def run(experiment: Experiment) -> dict[str, Any]:
    """Train one experiment, or go on with the one in `resume`, or only plan it.

    Raises
    ------
    PrimiaError
        If the configuration, the data, the federation or the disk does not allow it.
    """
    asked = experiment
    if experiment.resume:
        experiment = resumed(experiment)
    elif experiment.output_dir:
        check_new_folder(Path(experiment.output_dir), "output_dir")
    check_extras(experiment)
    if experiment.dry_run:
        from primia_flwr.cli.train.dry_run import make_plan  # heavy

        return make_plan(experiment)
    if asked.resume_rounds:
        lengthen(experiment)
    run_dir = Path(experiment.output_dir) if experiment.output_dir else new_run_dir(experiment)
    return _train_in(experiment, run_dir)


def _train_in(experiment: Experiment, run_dir: Path) -> dict[str, Any]:
    """Train one experiment in a folder, with the live view and the table at the end."""
    made = _folders_made(experiment, run_dir)
    with writing(f"output_dir={run_dir}", error=ConfigError, remedy=_WRITABLE):
        make_folder(run_dir)
    new = not any(run_dir.iterdir())
    rounds, sites = experiment.federation.rounds, experiment.federation.sites
    with LiveView(run_dir, rounds, sites, experiment.task.aim, quiet=experiment.quiet) as view:
        view.say(f"run folder: {run_dir}")
        from primia_flwr.pipeline.experiment import run_experiment  # seconds: said first

        with Stopping() as stopping, stopping.breaks():
            try:
                result = run_experiment(experiment, run_dir, view)
            except KeyboardInterrupt:
                view.say(_stopped(run_dir, rounds))
                raise
            except PrimiaError:
                if new and not (run_dir / "run.json").exists():
                    _forget(run_dir, made)
                raise
    show_result(experiment, run_dir)
    return result


def _folders_made(experiment: Experiment, run_dir: Path) -> int:
    """Return how many folders a run is given: outputs/<date>/<run>, its own alone, or none."""
    if not experiment.output_dir:
        return 3
    return 0 if run_dir.exists() else 1


def _forget(run_dir: Path, made: int) -> None:
    """Empty the folder of a run that never began, and remove the `made` folders it was given.

    A folder that the user made stays: it may be a link, or the one that the command runs in.
    """
    for path in run_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for folder in (run_dir, *run_dir.parents[:2])[:made]:  # outputs/<date>/<run>, where empty
        with contextlib.suppress(OSError):
            folder.rmdir()


def _stopped(run_dir: Path, planned: int) -> str:
    """Return what is left of a run that the user has stopped, and how to go on."""
    saved = sorted(run_dir.glob("checkpoints/checkpoint-*"))
    if not saved:
        return "stopped before the first round was complete; no site goes on, and nothing is kept"
    done = min(int(saved[-1].name.rpartition("-")[2]), planned)  # one more: the last verdict
    return (
        f"stopped after round {done}; no site goes on; the best model so far is in the checkpoint; "
        f"go on with primia train resume={run_dir}"
    )


def show_result(experiment: Experiment, run_dir: Path) -> None:
    """Print the table of a finished run, and where its report lies."""
    from primia_flwr.reporting.result_table import results_table
    from primia_flwr.runs.metadata import read_json

    console = Console(stderr=experiment.quiet, quiet=experiment.quiet, emoji=False)
    metrics = read_json(run_dir / "metrics.json")
    if metrics.get("federated"):
        console.print(results_table(metrics, experiment.task.judge))
    if read_json(run_dir / "run.json").get("synthetic"):
        console.print(
            "[yellow]The images are synthetic: the figures say nothing about patients.[/]"
        )
    console.print(f"report: {(run_dir / 'report.html').resolve().as_uri()}", soft_wrap=True)


def new_run_dir(experiment: Experiment) -> Path:
    """Make and return a new folder as `hydra.run.dir` names it; never one that exists."""
    cfg = compose("config", [f"name={experiment.name}"], return_hydra_config=True)
    wanted = Path(str(cfg.hydra.run.dir))
    for attempt in range(1, 1000):
        folder = wanted if attempt == 1 else wanted.with_name(f"{wanted.name}-{attempt}")
        try:
            with writing(folder.parent, error=ConfigError, remedy=_WRITABLE):
                make_folder(folder.parent)
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise ConfigError(f"{wanted} and 998 folders like it exist; expected room for a new run")


def _one_job(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Run one job of a sweep in the folder that Hydra made for it."""
    from primia_flwr.pipeline.experiment import settle

    if cfg.dry_run:
        return _planned(cfg, folder)
    return _train_in(settle(parse(Experiment, cfg), folder), folder)


def _job_gone_on_with(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Run one job of a sweep that was stopped: what is finished is kept, what was begun goes on."""
    if not (folder / "config.yaml").is_file():
        return _one_job(cfg, folder)
    from primia_flwr.pipeline.experiment import finished_summary

    if summary := finished_summary(folder):
        return summary
    run = replace(compose_experiment(), resume=str(folder), quiet=bool(cfg.quiet))
    return _train_in(resumed(run), folder)


def _planned(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Plan one job of a sweep; the folders that Hydra has made for it go again."""
    from hydra.core.hydra_config import HydraConfig

    from primia_flwr.cli.train.dry_run import make_plan
    from primia_flwr.pipeline.experiment import settle

    words = HydraConfig.get().overrides.hydra
    own = any(word.startswith("hydra.sweep.dir=") for word in words)
    try:
        with TemporaryDirectory(prefix="primia-plan-") as scratch:
            experiment = settle(parse(Experiment, cfg), Path(scratch))
            return {**make_plan(experiment), "config_hash": config_hash(experiment)}
    finally:
        (folder.parent / "multirun.yaml").unlink(missing_ok=True)
        for made in (folder, *folder.parents[: 0 if own else 3]):  # outputs/<date>/<sweep>/<job>
            with contextlib.suppress(OSError):
                made.rmdir()


COMMAND = Command(
    words=("train",),
    summary=(
        "train one image classifier over several sites, simulated on this machine or real, and "
        "write model, history, predictions and report.html into outputs/."
    ),
    examples=(
        "primia train experiment=demo",
        "primia train experiment=pneumonia data.root=chest_xray/train",
        "primia train experiment=pneumonia data.root=chest_xray/train dry_run=true",
        "primia train experiment=pneumonia strategy=fedadam federation.rounds=20 data.root=...",
        "primia train -m experiment=demo seed=1,2,3",
        "primia train -m resume=outputs/2026-11-21/12-00-00-demo",
        "primia train -m experiment=pneumonia sweep=pneumonia sweep.trials=50 data.root=...",
        "primia train -m sweep.resume=outputs/2026-11-21/12-00-00-pneumonia",
        "primia train experiment=pneumonia deployment=fl",
        "primia train resume=outputs/2026-11-21/12-00-00-pneumonia",
        "primia train resume=outputs/2026-11-21/12-00-00-pneumonia federation.rounds=100",
        "primia train --cfg job",
    ),
    config_name="config",
    schema=Experiment,
    run=run,
    most_used=(
        *("experiment", "data", "data.root", "data.manifest", "data.classes", "data.image_size"),
        *("model", "model.weights", "training.learning_rate", "training.batch_size"),
        *("federation.rounds", "federation.sites", "strategy", "aggregation", "privacy"),
        *("privacy.epsilon", "deployment", "tracking", "search", "baselines", "name", "seed"),
        *("output_dir", "resume", "dry_run", "quiet"),
    ),
)
