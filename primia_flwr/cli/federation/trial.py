"""`primia federation trial`: a real federation on this machine, from certificates to report."""

from pathlib import Path
from typing import Any

from primia_flwr.cli.command import Command
from primia_flwr.cli.train.live import LiveView
from primia_flwr.cli.train.train import new_run_dir, show_result
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError
from primia_flwr.pipeline.needed import check_extras, check_new_folder
from primia_flwr.storage.atomic import make_folder


def run(experiment: Experiment) -> dict[str, Any]:
    """Run the trial and print its result like `primia train`.

    Raises
    ------
    PrimiaError
        As `run_trial`.
    """
    if experiment.data.volumes.fingerprint:
        raise ConfigError(
            "data.volumes.fingerprint=true in a trial; expected false, or primia train: sites of a "
            "trial read slices by a manifest, and only a folder of volumes tells spacings"
        )
    if experiment.output_dir:
        check_new_folder(Path(experiment.output_dir), "output_dir")
    check_extras(experiment, own_sites=True)
    run_dir = Path(experiment.output_dir) if experiment.output_dir else new_run_dir(experiment)
    make_folder(run_dir)
    rounds, sites = experiment.federation.rounds, experiment.federation.sites
    with LiveView(run_dir, rounds, sites, experiment.task.aim, quiet=experiment.quiet) as view:
        view.say(f"run folder: {run_dir}")
        from primia_flwr.trials.federation import run_trial  # seconds: said first

        result = run_trial(experiment, run_dir, view)
    show_result(experiment, run_dir)
    return result


COMMAND = Command(
    words=("federation", "trial"),
    summary=(
        "run a real federation on this machine: certificates, a SuperLink with TLS, sites behind "
        "their gates, on free loopback ports; nothing is left running."
    ),
    examples=(
        "primia federation trial experiment=demo federation.rounds=3",
        "primia federation trial experiment=pneumonia data.root=chest_xray/train",
    ),
    config_name="config",
    schema=Experiment,
    run=run,
)
