"""One experiment from its data to its report.

Data → federated training → score on the test set → baselines → tracking → report. Each step
reads and writes the run's folder, so that the steps after a failure can be repeated.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from rich.markup import escape
from torch import nn

from primia_flwr.config.experiment.data import with_absolute_paths
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import to_yaml
from primia_flwr.config.search.searched import with_values
from primia_flwr.config.stored import read_config
from primia_flwr.data.dataset import (
    LabelledImages,
    SiteData,
    data_notes,
    deal_sites,
    hold_out_test,
    load_test,
)
from primia_flwr.data.files.progress import telling
from primia_flwr.data.pseudonyms import private_folder
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.data.reading.common import generated_note
from primia_flwr.evaluation.sets import COVERAGE, judge_sets, set_rule
from primia_flwr.flower.launcher import RunStopped
from primia_flwr.flower.shares import shares
from primia_flwr.models import check_image_size
from primia_flwr.models.card import ModelCard
from primia_flwr.models.saved import load_model
from primia_flwr.pipeline.baselines.compared import train_baselines
from primia_flwr.pipeline.dealt import DEALT
from primia_flwr.pipeline.first_model import check_first_weights, check_outputs
from primia_flwr.pipeline.lost import launch_again
from primia_flwr.pipeline.scoring import (
    Scorer,
    check_explained,
    explain_model,
    score_model,
    score_own_models,
)
from primia_flwr.pipeline.tracked import tracked
from primia_flwr.pipeline.weights import check_weights
from primia_flwr.provisioning.identities import prepare_secure
from primia_flwr.provisioning.readiness import roster_notes, with_roster
from primia_flwr.reporting.model_card import write_model_card
from primia_flwr.reporting.report import write_report
from primia_flwr.runs.evidence import write_evidence
from primia_flwr.runs.metadata import continued, data_facts, read_json, run_facts, trained_on
from primia_flwr.runs.track import Curves
from primia_flwr.storage.atomic import write_result
from primia_flwr.storage.printable import printable
from primia_flwr.tasks.judge import ModelScores


class Watcher(Protocol):
    """Somebody who is told how a run goes on."""

    def update(self) -> None:
        """Look at the run's files."""

    def say(self, text: str) -> None:
        """Hear one sentence."""

    def step(self, name: str, done: float, total: float, note: str) -> None:
        """Hear how far a step of its own is."""


class _Nobody:
    """Watches a run that nobody watches."""

    def update(self) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, name: str, done: float, total: float, note: str) -> None: ...


def run_experiment(
    experiment: Experiment,
    run_dir: Path,
    watcher: Watcher | None = None,
    *,
    test: LabelledImages | None = None,
    score: bool = True,
) -> dict[str, Any]:
    """Run an experiment and return what `primia train` prints as its last line.

    Parameters
    ----------
    experiment : Experiment
        Checked; simulated or deployed.
    run_dir : Path
        The folder for all that comes of it; one with a checkpoint to go on from, or a new one.
    watcher : Watcher, optional
        Told how it goes on.
    test : LabelledImages, optional
        For a deployment whose coordinator has a test set; a simulation holds out its own.
    score : bool
        False for a trial of a search: the test set stays held out, and nobody looks at it.

    Raises
    ------
    PrimiaError
        If the data, the federation or the disk does not allow it.
    """
    started, watcher = time.monotonic(), watcher or _Nobody()
    experiment, kept = _with_roster(settle(experiment, run_dir), watcher)
    before = continued(run_dir)
    write_result(run_dir / "config.yaml", to_yaml(kept))
    with telling(lambda done, total: watcher.step("decoding", done, total, "images")):
        if score and experiment.deployment.kind == "simulation":
            test = test_set(experiment)
        facts = {**run_facts(experiment), **before, **_data(experiment, test, watcher)}
    with tracked(experiment, run_dir) as curves:
        facts |= _federate(experiment, run_dir, facts, watcher, curves)
        write_result(run_dir / "run.json", facts)
        _describe_model(experiment, run_dir)
        metrics = _score(experiment, run_dir, test, watcher)
        write_evidence(run_dir, experiment.task.judge, seed=experiment.seed)
        seconds = round(time.monotonic() - started + before["seconds_before"], 1)
        facts |= {"status": "finished", "seconds": seconds}
        write_result(run_dir / "metrics.json", {**metrics, "seconds": seconds})
        write_result(run_dir / "run.json", facts)
        _describe_model(experiment, run_dir)
        write_report(run_dir)
    return _summary(run_dir, facts, metrics, experiment.task.judge.headline)


def _with_roster(experiment: Experiment, watcher: Watcher) -> tuple[Experiment, Experiment]:
    """Return the experiment with the sites of its roster, and as config.yaml keeps it."""
    if experiment.deployment.kind == "simulation":
        return experiment, experiment
    joined = with_roster(experiment)
    for note in roster_notes(experiment, joined):
        watcher.say(note)
    known = experiment.federation if experiment.resume else joined.federation
    return joined, replace(joined, federation=known)  # who has left may come back


def _describe_model(experiment: Experiment, run_dir: Path) -> None:
    """Write the model's card for people, where the coordinator has a model."""
    if not experiment.aggregation.withheld:
        write_model_card(run_dir)


def check_model(experiment: Experiment) -> None:
    """Refuse a model that the run could not begin with.

    Raises
    ------
    ConfigError
        If it cannot take images of the configured size, has no outputs of the task, or a private
        run may not start from the configured weights.
    """
    check_image_size(experiment.model, experiment.data.image_size)
    check_outputs(experiment)
    check_first_weights(experiment)
    check_explained(experiment.task, "report.saliency", experiment.report.saliency)


def settle(experiment: Experiment, run_dir: Path) -> Experiment:
    """Return the experiment with its output folder and paths that hold in any process.

    Raises
    ------
    ConfigError
        As `check_model`.
    """
    check_model(experiment)
    return replace(
        experiment,
        output_dir=str(run_dir.resolve()),
        data=with_absolute_paths(experiment.data),
        aggregation=prepare_secure(experiment, run_dir),
    )


def simulated_sites(experiment: Experiment) -> list[SiteData]:
    """Return the data of every simulated site; decodes it once for all processes."""
    names = experiment.federation.sites
    dealt = deal_sites(
        experiment.data, seed=experiment.seed, num_sites=len(names), site_names=names
    )
    return [dealt.open(index) for index in range(len(names))]


def finished_summary(run_dir: Path) -> dict[str, Any]:
    """Return the one JSON line of a run that is finished; nothing of another one.

    Raises
    ------
    ConfigError
        If its configuration cannot be read.
    """
    if not (run_dir / "metrics.json").is_file():
        return {}
    facts, metrics = read_json(run_dir / "run.json"), read_json(run_dir / "metrics.json")
    if facts.get("status") != "finished":
        return {}
    shown = read_config(run_dir / "config.yaml").task.judge.headline
    return _summary(run_dir, facts, metrics, shown)


def _summary(
    run_dir: Path, facts: dict[str, Any], metrics: dict[str, Any], shown: Sequence[str]
) -> dict[str, Any]:
    """Return the one JSON line of a run, with some scores; None where no test set is at hand."""
    federated = metrics.get("federated") or {}
    return {
        "run": str(run_dir),
        "rounds": facts.get("rounds"),
        **{name: federated.get(name) for name in shown},
        "seconds": facts.get("seconds"),
    }


def _data(experiment: Experiment, test: LabelledImages | None, watcher: Watcher) -> dict[str, Any]:
    """Return what is known of the data before the run: of real sites, nothing."""
    facts: dict[str, Any] = {"data_layout": experiment.data.layout}
    if generated := generated_note(experiment.data):
        facts["generated"] = generated
    if experiment.deployment.kind == "simulation":
        watcher.say("reading the data ...")
        facts["dealt"] = DEALT
        facts["threads"] = experiment.training.threads or shares(experiment).cores
        unit = experiment.privacy.protected_unit
        sites = simulated_sites(experiment)
        check_weights(experiment, {site.name: len(site.train) for site in sites})
        facts |= data_facts(sites, test, private_unit=unit)
        for note in data_notes(experiment.data, seed=experiment.seed):
            watcher.say(f"data: {escape(printable(note, limit=2000))}")
        return facts
    facts["data_layout"] = experiment.data.layout if experiment.deployment.trial else "each site's"
    known = {"synthetic": experiment.trains_on_synthetic, "classes": experiment.data.classes}
    return facts | known | {"sites": []}


def test_set(experiment: Experiment) -> LabelledImages | None:
    """Return the test set that no simulated site holds; None where there is none."""
    data, seed = experiment.data, experiment.seed
    whole = read_manifest(data, seed=seed)
    if data.test_fraction == 0 and hold_out_test(data, whole, seed)[1] is None:
        return None
    return load_test(data, seed=seed)


def _federate(
    experiment: Experiment, run_dir: Path, facts: dict[str, Any], watcher: Watcher, curves: Curves
) -> dict[str, Any]:
    """Run the federation; return what it adds to the facts. A failure is kept in run.json."""
    facts |= _claim(experiment, watcher)
    write_result(run_dir / "run.json", facts)
    try:

        def update() -> None:
            curves.update()
            watcher.update()

        result = launch_again(experiment, run_dir, update, watcher.say)
    except BaseException as error:
        status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        ended = error.facts if isinstance(error, RunStopped) else {"status": status}
        write_result(run_dir / "run.json", {**facts, **ended})
        raise
    return _learned(experiment, run_dir, result, facts["classes"])


def _learned(
    experiment: Experiment, run_dir: Path, result: dict[str, Any], classes: Sequence[str]
) -> dict[str, Any]:
    """Return what the end of a federation adds to the facts of a run."""
    added = {key: value for key, value in result.items() if key != "sites"}
    if not experiment.aggregation.withheld:
        model, _ = load_model(run_dir, whole=False)
        added["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    if experiment.deployment.kind == "deployment":
        added["sites"] = _reported_sites(result, experiment.task.label_names(classes))
    else:
        added["devices"] = trained_on(run_dir, experiment.federation.sites)
    return added


def _claim(experiment: Experiment, watcher: Watcher) -> dict[str, Any]:
    """Say, for run.json and whoever watches, what a private run's first weights add to its claim.

    A site's ledger knows its own runs only: what the weights cost before is added here.
    """
    privacy = experiment.privacy
    if not privacy.enabled:
        return {}
    start = check_first_weights(experiment)
    if start.epsilon:
        watcher.say(
            f"model.weights={experiment.model.weights} cost epsilon = {start.epsilon:.4g} at delta "
            f"= {start.delta:g}; both are added to what this run claims"
        )
    facts: dict[str, Any] = {"first_weights": {"source": experiment.model.weights}}
    facts["first_weights"] |= {"epsilon": start.epsilon, "delta": start.delta}
    facts["first_weights"]["stated_without_patients"] = privacy.weights_without_patients
    if privacy.epsilon:
        facts["epsilon_asked_in_all"] = privacy.epsilon + start.epsilon
    return facts


def _reported_sites(result: dict[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the sites as they reported themselves, with the names of what they counted.

    Under secure aggregation nothing but a site's name is known.
    """
    return [
        {**site, "label_counts": dict(zip(names, site["label_counts"], strict=True))}
        if "label_counts" in site
        else site
        for site in result["sites"]
    ]


def _scorer(experiment: Experiment, test: LabelledImages) -> Scorer:
    training, private = experiment.training, private_folder(experiment.data.cache_dir)

    def scored(model: nn.Module, card: ModelCard, path: Path) -> ModelScores:
        return score_model(
            *(model, card, test, path),
            batch_size=training.batch_size,
            device=training.device,
            precision=training.precision,
            private=private,
        )

    return scored


def _score(
    experiment: Experiment, run_dir: Path, test: LabelledImages | None, watcher: Watcher
) -> dict[str, Any]:
    """Return the content of metrics.json: scores of the federated model and of the baselines."""
    if test is None or experiment.aggregation.withheld:
        return {"test": None}
    scored, metrics = _scorer(experiment, test), dict[str, Any](test={"n": len(test)})
    if experiment.model.keeps_layers:
        metrics["own"] = score_own_models(run_dir, experiment.federation.sites, scored)
    else:
        metrics |= _score_federated(experiment, run_dir, test, scored)
    if experiment.deployment.kind == "simulation" and experiment.baselines:
        metrics |= _score_baselines(experiment, run_dir, scored, watcher)
    return metrics


def _score_federated(
    experiment: Experiment, run_dir: Path, test: LabelledImages, scored: Scorer
) -> dict[str, Any]:
    """Return the scores of the run's model; they are on the disk before its maps are drawn."""
    (model, card), saliency = load_model(run_dir), experiment.report.saliency
    federated = scored(model, card, run_dir / "predictions.csv")
    metrics: dict[str, Any] = {"federated": federated.to_dict()}
    if card.set_scores:
        rule = set_rule(card, coverage=COVERAGE, by_class=False)
        sets = judge_sets(run_dir / "predictions.csv", experiment.task.judge, rule)
        metrics["sets"] = sets.to_dict()
    write_result(run_dir / "metrics.json", {"test": {"n": len(test)}, **metrics})
    if saliency and not card.votes:  # which member's layer would it be?
        origin, device = "the test set of this run", experiment.training.device
        explain_model(model, card, test, run_dir, per_class=saliency, origin=origin, device=device)
    return metrics


def _score_baselines(
    experiment: Experiment, run_dir: Path, scored: Scorer, watcher: Watcher
) -> dict[str, Any]:
    """Train the baselines and return their scores by name; those of single sites under `local`."""
    metrics = dict[str, Any]()
    found = with_values(experiment, read_json(run_dir / "result.json").get("values") or {})
    with closing(train_baselines(found, run_dir, watcher.step)) as baselines:
        for name, model, card in baselines:
            scores = scored(model, card, run_dir / f"predictions-{name}.csv").to_dict()
            if name in ("centralised", "ensemble"):
                metrics[name] = scores
            else:
                metrics.setdefault("local", {})[name.removeprefix("local-")] = scores
    return metrics
