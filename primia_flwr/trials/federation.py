"""A whole real federation on this machine: what `primia federation trial` runs.

Everything is as in a hospital's network but the distance: certificates and keys, a SuperLink
with TLS, authentication and database, sites behind their gates with their own policies, each
in processes of its own on 127.0.0.1.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rows import TASKS
from primia_flwr.data.dataset import hold_out_test, named_sites
from primia_flwr.data.files.store import open_store
from primia_flwr.data.pictures import pictures_of
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.flower.bundle import stage_bundle
from primia_flwr.pipeline.experiment import Watcher, run_experiment, settle, test_set
from primia_flwr.trials.loopback import LoopbackFederation, LoopbackSite


def run_trial(experiment: Experiment, run_dir: Path, watcher: Watcher) -> dict[str, Any]:
    """Deal the data to sites, start the federation, train, score, and stop everything.

    Raises
    ------
    PrimiaError
        If the data, a port or a process does not allow it.
    """
    experiment = settle(experiment, run_dir)
    federation = loopback_federation(experiment, run_dir.resolve() / "trial")
    try:
        return _run(experiment, federation, run_dir, watcher)
    finally:
        _forget_keys(run_dir / "trial")


def _run(
    experiment: Experiment, federation: LoopbackFederation, run_dir: Path, watcher: Watcher
) -> dict[str, Any]:
    with federation:
        watcher.say(f"SuperLink at {federation.superlink.address}; {len(federation.nodes)} sites")
        test = test_set(experiment)
        return run_experiment(deployed(experiment, federation), run_dir, watcher, test=test)


def loopback_federation(experiment: Experiment, folder: Path) -> LoopbackFederation:
    """Return a federation whose sites hold the experiment's data and have approved its code."""
    fab = folder / "primia-flwr.fab"
    fab.parent.mkdir(parents=True, exist_ok=True)
    fab.write_bytes(stage_bundle(folder / "app").content)
    return LoopbackFederation(
        folder,
        _sites(experiment, folder / "data"),
        bundle=fab,
        experiments=[experiment.name],
        min_sites=experiment.federation.min_sites,
        durable=experiment.deployment.durable,
    )


def deployed(experiment: Experiment, federation: LoopbackFederation) -> Experiment:
    """Return the experiment as the coordinator of this federation runs it."""
    classes = list(read_manifest(experiment.data, seed=experiment.seed).classes)
    deployment = DeploymentConfig(
        name="loopback",
        kind="deployment",
        superlink=federation.superlink.address,
        root_certificates=str(federation.root_certificates.resolve()),
        roster=str(federation.federation.roster_file.resolve()),
        durable=experiment.deployment.durable,
        trial=True,
    )
    return replace(
        experiment, deployment=deployment, data=replace(experiment.data, classes=classes)
    )


def _forget_keys(folder: Path) -> None:
    """Delete the private keys of a federation that is over; logs and certificates stay."""
    for pattern in ("*.key", "*.secret", "*.zip"):
        for path in folder.rglob(pattern):
            path.unlink(missing_ok=True)


def _sites(experiment: Experiment, folder: Path) -> list[LoopbackSite]:
    """Write one manifest per site, as `primia data partition` does."""
    whole = read_manifest(experiment.data, seed=experiment.seed)
    store = open_store(whole, experiment.data)
    whole = replace(whole, digests=pictures_of(store))  # patients who share a picture stay together
    develop, _ = hold_out_test(experiment.data, whole, experiment.seed)
    names = experiment.federation.sites
    parts = named_sites(
        develop, experiment.data, seed=experiment.seed, num_sites=len(names), site_names=names
    )
    sites = []
    for name, part in parts.items():
        part.write_csv(folder / f"{name}.csv")
        policy = _policy(experiment)
        sites.append(LoopbackSite(name, whole.root, folder / f"{name}.csv", policy))
    return sites


def _policy(experiment: Experiment) -> dict[str, Any]:
    """Return what the sites of a trial insist on: what the experiment promises them."""
    aggregation = experiment.aggregation
    alone = aggregation.relayed or experiment.shows_single_updates
    handed_on = alone or experiment.crosses_sites
    task = experiment.data.task
    return {
        "data_task": f"plugin:{task}" if task in TASKS.plugins() else task,
        "require_secure_aggregation": aggregation.secure,
        "allow_relay": "yes" if handed_on else "no",
        "allow_other_survivors": aggregation.allow_other_survivors,
        "allow_mixed_rounds": aggregation.mixed_rounds,
        "max_epsilon": experiment.privacy.promised_epsilon,
        "privacy_delta": experiment.privacy.delta,
        "privacy_unit": experiment.privacy.unit,
    }
