"""The coordinator's Flower app: load the experiment, run the rounds, save the best model."""

import contextlib
import copy
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from torch import nn

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import load_experiment
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.data.size_bins import side_bins
from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.records import load_arrays, to_arrays
from primia_flwr.models import save_model
from primia_flwr.models.card import ENSEMBLE, ModelCard
from primia_flwr.models.ensemble import Ensemble
from primia_flwr.models.frozen_arrays import frozen_of, without
from primia_flwr.models.origin import Origin, origin_of
from primia_flwr.models.provenance import FILE, arrays_digest
from primia_flwr.models.votes import Votes
from primia_flwr.pipeline.earlier_sums import check_earlier_sums
from primia_flwr.pipeline.first_model import (
    check_first_weights,
    first_model,
    model_card,
    trained_provenance,
)
from primia_flwr.processes.children import end_with_parent
from primia_flwr.reporting.chapters.privacy import privacy_account
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.storage.atomic import write_result
from primia_flwr.tasks.classes import SET_SCORES
from primia_flwr.training.normalisation import Normalisation
from strategies.aggregators.ensemble import beside, members_of, votes_of
from strategies.registry import build_aggregator, run_rounds
from strategies.rounds.state import RunState

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment of the run-config's one key; write the result or the error."""
    end_with_parent()
    experiment = load_experiment(str(context.run_config.get("config", "")))
    folder = output_folder(experiment)
    try:
        run(experiment, grid, folder, flower_run=context.run_id)
    except Exception as error:
        with contextlib.suppress(PrimiaError):
            write_result(folder / "error.json", {"error": _sentence(error)})
        raise


def run(experiment: Experiment, grid: Grid, folder: Path, *, flower_run: int = 0) -> RunState:
    """Run an experiment on a grid; model.safetensors, model.json and result.json are the end.

    Raises
    ------
    PrimiaError
        If the run cannot start or go on; what was done so far can be resumed.
    """
    classes = class_names(experiment)
    model, initial, origin = _first(experiment, len(classes), folder)
    aggregator = build_aggregator(
        experiment,
        model=without(initial, frozen_of(experiment.model, model)),
        parameters=[name for name, _ in model.named_parameters()],
        outputs=len(classes),
        folder=folder,
        flower_run=flower_run,
    )
    sites, nodes = experiment.federation.sites, experiment.deployment.nodes
    roster, resume = RosterGrid(grid, sites, nodes), bool(experiment.resume)
    ensemble = experiment.strategy.keeps_models
    begin = beside(dict.fromkeys(sites, initial)) if ensemble else initial
    done = run_rounds(experiment, roster, aggregator, folder, begin, classes=classes, resume=resume)
    state, experiment = done.state, done.experiment
    if experiment.aggregation.withheld:
        write_result(folder / "result.json", {**_result(state), "model": "at the sites"})
        return state
    card = _card(experiment, folder, state, classes, origin)
    if ensemble:
        members = members_of(state.best, initial)
        votes = votes_of(experiment, members, state.sites, folder)
        card = replace(card, kind=ENSEMBLE, votes=votes)
        model = _ensemble(model, members, votes)
    else:
        load_arrays(model, held(state.best))
    save_model(folder, model, card)
    write_result(folder / "result.json", {**_result(state), **done.found})
    return state


def _first(
    experiment: Experiment, outputs: int, folder: Path
) -> tuple[nn.Module, ArrayMap, Origin]:
    """Return the model that the run begins with, its arrays, and where they come from."""
    start = check_first_weights(experiment)
    model = first_model(experiment, outputs)
    initial = values_of(to_arrays(model.state_dict()))
    origin = origin_of(experiment.model, arrays_sha256=arrays_digest(initial))
    facts = {**origin.to_dict(), "source": experiment.model.weights}
    write_result(folder / FILE, {**facts, "added": start.to_dict()})
    check_earlier_sums(experiment, folder, origin.arrays_sha256)
    return model, initial, origin


def _card(
    experiment: Experiment, folder: Path, state: RunState, classes: tuple[str, ...], origin: Origin
) -> ModelCard:
    """Return the card of the run's result, with what its privacy cost."""
    account = privacy_account(folder, asdict(experiment))
    epsilon = account.epsilon_of_run if account else None
    scale = Normalisation(state.mean, state.std)
    return replace(
        model_card(experiment, classes, scale, state.best_round),
        privacy=account.statement if account else "",
        provenance=trained_provenance(experiment, epsilon=epsilon),
        origin=origin,
        set_scores=_set_scores(state, len(classes)),
    )


def _ensemble(model: nn.Module, members: dict[str, ArrayMap], votes: Votes) -> Ensemble:
    """Return the members as one module; `model`: one like each of them."""
    found = {name: copy.deepcopy(model) for name in members}
    for name, arrays in members.items():
        load_arrays(found[name], held(arrays))
    return Ensemble(found, votes)


def output_folder(experiment: Experiment) -> Path:
    """Return the run's folder: as configured, or a new one below the current directory."""
    configured = experiment.output_dir or experiment.resume
    now = datetime.now()
    new = Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{experiment.name}"
    folder = (Path(configured) if configured else new).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"output_dir={folder} ({error.strerror}); expected a folder that can be written to"
        ) from None
    for stale in ("result.json", "error.json"):
        (folder / stale).unlink(missing_ok=True)
    return folder


def class_names(experiment: Experiment) -> tuple[str, ...]:
    """Return the classes' names: as configured or, in a simulation, as found in the data.

    Raises
    ------
    ConfigError
        If a coordinator without data is not told the classes.
    """
    if experiment.data.classes:
        return tuple(experiment.data.classes)
    if experiment.deployment.kind == "simulation":
        return read_manifest(experiment.data, seed=experiment.seed).classes
    raise ConfigError(
        "data.classes=[]; expected the classes in the order of the model's outputs, because the "
        "coordinator of a deployment has no data, e.g. data.classes=[normal,bacterial,viral]"
    )


def _set_scores(state: RunState, classes: int) -> tuple[tuple[int, ...], ...]:
    """Return what the validation of the best model counted for sets of classes, if it did."""
    found = state.validation.get("counts", {}).get(SET_SCORES, [])
    size = len(found) // classes
    return tuple(tuple(found[k * size : (k + 1) * size]) for k in range(classes)) if found else ()


def _sentence(error: Exception) -> str:
    if isinstance(error, PrimiaError):
        return str(error)
    return (
        f"the coordinator stopped unexpectedly ({type(error).__name__}: {error}); see its log; "
        "go on from the last checkpoint with `primia train resume=<output folder>`"
    )


def _result(state: RunState) -> dict[str, object]:
    return {
        "rounds": state.round,
        "best_round": state.best_round,
        "validation": state.validation,
        "stopped": state.stopped,
        "pixel_mean": list(state.mean),
        "pixel_std": list(state.std),
        "label_counts": state.label_counts,
        "image_sides": dict(zip(side_bins(), state.side_counts, strict=False)),
        "sites": state.sites,
    }
