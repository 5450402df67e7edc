"""`dry_run=true`: what would happen, checked as far as it can be without doing it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.train.who_sees import what_matters
from primia_flwr.config.experiment.halving import rounds_in_all
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import config_hash
from primia_flwr.data.dataset import SiteData, data_notes
from primia_flwr.flower.bundle import stage_bundle
from primia_flwr.flower.shares import Shares, shares
from primia_flwr.pipeline.experiment import check_model, simulated_sites, test_set
from primia_flwr.pipeline.first_model import first_model
from primia_flwr.pipeline.planned_privacy import planned_privacy
from primia_flwr.pipeline.weights import check_weights
from primia_flwr.provisioning.readiness import federation_facts
from primia_flwr.runs.metadata import data_facts
from primia_flwr.runs.tracking_mode import resolve_mode
from primia_flwr.storage.printable import printable
from primia_flwr.training.plan import steps_a_round

_BYTES = 4  # of a float32


def make_plan(experiment: Experiment) -> dict[str, Any]:
    """Check data or federation, print the plan, and return it as plain values.

    Raises
    ------
    PrimiaError
        As the run itself would, before it starts.
    """
    check_model(experiment)
    console = Console(stderr=experiment.quiet, quiet=experiment.quiet, emoji=False)
    with TemporaryDirectory(prefix="primia-plan-") as folder:
        bundle = stage_bundle(Path(folder)).sha256
    plan: dict[str, Any] = {
        "plan": experiment.name,
        "config_hash": config_hash(experiment),
        "bundle": bundle,
        "rounds": experiment.federation.rounds,
        "strategy": experiment.strategy.name,
        "aggregation": experiment.aggregation.name,
        "privacy_mode": experiment.privacy.mode,
        "tracking": resolve_mode(experiment.tracking),
    }
    for what, line in what_matters(experiment).items():
        console.print(f"{what}: {escape(line)}", soft_wrap=True)
    plan |= _search(experiment, console)
    if experiment.deployment.kind == "simulation":
        plan |= _simulation(experiment, console)
    else:
        plan |= federation_facts(experiment, console)
    console.print(f"bundle to approve at the sites: {bundle}")
    return plan


def _search(experiment: Experiment, console: Console) -> dict[str, Any]:
    """Print and return the rungs of a search, and the rounds of all its configurations."""
    rungs = experiment.search.rungs(experiment.federation.rounds)
    if not rungs:
        return {}
    words = ", ".join(f"{rung.configurations} up to round {rung.rounds}" for rung in rungs)
    in_all = rounds_in_all(rungs)
    console.print(f"search: {words}; {in_all} rounds in all")
    return {"search": {"rungs": [vars(rung) for rung in rungs], "rounds": in_all}}


def _simulation(experiment: Experiment, console: Console) -> dict[str, Any]:
    sites = simulated_sites(experiment)
    check_weights(experiment, {site.name: len(site.train) for site in sites})
    facts = data_facts(sites, test_set(experiment))
    model = first_model(experiment, len(facts["classes"]))
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    shared = shares(experiment)
    table = Table(title=f"{experiment.name}: {experiment.federation.rounds} rounds")
    counted = experiment.task.label_names(facts["classes"])
    for column in ("site", "train", "validation", *counted, "batches a round"):
        table.add_column(column, justify="left" if column == "site" else "right")
    for row in facts["sites"]:
        steps = steps_a_round(experiment.training, row["train"])
        counts = [str(n) for n in row["label_counts"].values()]
        table.add_row(row["site"], str(row["train"]), str(row["val"]), *counts, str(steps))
    console.print(table)
    notes = data_notes(experiment.data, seed=experiment.seed)
    for note in notes:
        console.print(f"[yellow]data:[/] {escape(printable(note, limit=2000))}", soft_wrap=True)
    console.print(
        f"test set: {facts['test']['n'] if facts['test'] else 'none'} images; "
        f"model: {experiment.model.name}, {parameters:,} parameters, "
        f"{parameters * _BYTES / 1e6:.1f} MB to a site each round, "
        f"{trained * _BYTES / 1e6:.1f} MB back; "
        f"{shared.at_once} site(s) at once on {shared.cores} core(s) each{_gpus(shared)}"
    )
    private = _private(experiment, sites, trained, console)
    return {
        **facts,
        "data_notes": list(notes),
        "parameters": parameters,
        "trained": trained,
        **private,
    }


def _gpus(shared: Shares) -> str:
    if not shared.devices:
        return ", no GPU"
    return f", {shared.gpus:g} of a GPU each, of {shared.devices}"


def _private(
    experiment: Experiment, sites: Sequence[SiteData], trained: int, console: Console
) -> dict[str, Any]:
    """Print and return what a private run would cost and how noisy it would be."""
    rows = planned_privacy(experiment, sites, trained)
    if not rows:
        return {}
    table = Table(title=f"{experiment.privacy.mode}, delta {experiment.privacy.delta:g}")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="left" if column == "site" else "right")
    for row in rows:
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()]
        table.add_row(*cells)
    console.print(table)
    return {"privacy": rows}
