"""A task unlike classification, from a plugins folder, through all that trains and shows."""

import csv
import html
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from primia_flwr.cli.train.live import LiveView
from primia_flwr.config import rows
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.config.load import compose, parse
from primia_flwr.config.rows import TASKS, add_plugins
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ConfigError, DataError, ProtocolError
from primia_flwr.evaluation.predictions import read_predictions, write_predictions
from primia_flwr.messages.secure import report_layout, statistics_layout
from primia_flwr.pipeline.scoring import check_explained
from primia_flwr.reporting.chapters.search import search_chapter
from primia_flwr.reporting.chapters.secure_account import account
from primia_flwr.reporting.model_card import model_facts
from primia_flwr.reporting.report import write_report
from primia_flwr.reporting.result_table import results_table
from primia_flwr.runs.cross_site import Cell, CrossSite, ModelRow, write_matrix
from primia_flwr.runs.evidence import write_evidence
from primia_flwr.runs.folder import read_run_folder, results_by_name
from primia_flwr.runs.history import History, RoundRow, SiteRow, append_event
from primia_flwr.runs.secure_sums import SumRow
from primia_flwr.runs.track import record_of
from primia_flwr.search.study import objective_of
from primia_flwr.tasks.judge import Settings
from primia_flwr.tasks.predictions import MODEL, Predictions, Reading
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.evaluate import evaluate, predict
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.stopping.early import Patience
from strategies.aggregators.secure.plausibility import check_plausible

NAMES = ("none", "mild", "severe")


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.setattr(rows, "_PLUGINS", [])
    add_plugins(Path(__file__).parent / "second")


@pytest.fixture
def task():
    return TASKS["grade"]


def found(task, off, loss=0.5):
    """Ten images, of which `off` were one grade off."""
    return Evaluation(task, loss * 10, 10, {"distances": np.array([10 - off, off, 0])})


class Bright(torch.nn.Module):
    """Logits far apart: the grade is the first pixel over 100."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        grade = (images[:, 0, 0, 0] * 2.55).round().long()
        return 1000 * torch.nn.functional.one_hot(grade, 3)


def test_a_model_is_evaluated_by_the_task_of_its_images(task):
    pixels = torch.tensor([0, 100, 200], dtype=torch.uint8).reshape(3, 1, 1, 1)
    labels = torch.tensor([0, 2, 0])  # the grades said are 0, 1, 2
    images = LabelledImages(pixels, labels, ("a", "b", "c"), NAMES, ("d", "e", "f"), task=task)
    how = {"normalisation": Normalisation((0.0,), (1.0,)), "batch_size": 2,
           "device": torch.device("cpu")}  # fmt: skip
    got = evaluate(Bright(), images, **how)
    assert got.counts["distances"].tolist() == [1, 1, 1]
    assert got.figures() == {"loss": pytest.approx((0 + 1 + 4) / 3), "off": pytest.approx(1)}
    assert predict(Bright(), images, **how).tolist() == [0, 1, 2]


def test_patience_and_searches_want_less_of_what_is_better_when_lower(task):
    patience = Patience("objective", 2)
    assert [patience.update(found(task, off), step) for step, off in enumerate((5, 3, 4, 4))] == [
        True, True, False, False,
    ]  # fmt: skip
    assert (patience.best, patience.best_step, patience.should_stop) == (0.3, 1, True)
    assert objective_of(task.aim) == (
        "lowest validation grades off of a round, aggregated over the sites"
    )


def test_the_layout_of_secure_sums_and_their_bounds_follow(task):
    experiment = parse(Experiment, compose("config", ["task=classification"]))
    experiment = replace(experiment, data=replace(experiment.data, task="grade"))
    layout = report_layout(experiment, 0, 3)
    sizes = {number.name: number.size for number in layout.numbers}
    assert sizes["incoming-distances"] == sizes["local-distances"] == 3
    assert statistics_layout(experiment, 3).numbers[3].size == 3
    values = {number.name: [0] * number.size for number in layout.numbers}
    values |= {"incoming-examples": [10], "incoming-loss-sum": [5.0]}
    good = {**values, "incoming-distances": [7, 2, 1]}
    encoded = layout.encode(None, good)
    check_plausible(layout, encoded, good, 3, task=task)
    bad = {**good, "incoming-distances": [7, 2, 2]}
    with pytest.raises(ProtocolError, match="distances of 11 images"):
        check_plausible(layout, layout.encode(None, bad), bad, 3, task=task)


def test_a_monitor_of_another_task_is_refused():
    words = ["training.early_stopping.federation.monitor=mcc"]
    experiment = parse(Experiment, compose("config", words))
    with pytest.raises(ConfigError, match="monitor=mcc; expected one of loss, off, objective"):
        replace(experiment, data=replace(experiment.data, task="grade"))


# --- A run's folder ---------------------------------------------------------------------------


def predictions(said):
    labels = np.array([0, 1, 2, 1])
    names = ("a.png", "b.png", "c.png", "d.png")
    return Predictions(names, ("p", "p", "q", "r"), labels, np.array(said), ("said",))


@pytest.fixture
def run(task, tmp_path):
    """Two rounds of two sites; the federated model is .5 grades off, a site's alone 1."""
    judge, metrics = task.judge, [metric.name for metric in task.metrics]
    history = History(tmp_path, metrics)
    history.rounds = [
        RoundRow(1, train_loss=1.0, validation=found(task, 5).figures(), sites=2, best=False),
        RoundRow(2, train_loss=0.5, validation=found(task, 3).figures(), sites=2, best=True),
    ]
    history.sites = [SiteRow(1, "paris", "ok", validation=found(task, 2).figures())]
    history.write()
    scores = {}
    for name, said in (("federated", [0.1, 1.2, 0.6, 0.0]), ("local", [1.0, 2.0, 2.6, 0.0])):
        made = predictions(said)
        scores[name] = judge.score(made.labels, made.outputs, NAMES).to_dict()
        file = "predictions" if name == "federated" else "predictions-local-paris"
        write_predictions(tmp_path / f"{file}.csv", made, judge)
    metrics = {"federated": scores["federated"], "local": {"paris": scores["local"]}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "run.json").write_text(json.dumps({"classes": list(NAMES), "best_round": 2}))
    (tmp_path / "config.yaml").write_text("data: {task: grade}\n")
    cell = Cell(found(task, 3))
    matrix = (ModelRow("Federated", 2, {"paris": cell}), ModelRow("paris", 2, {"paris": cell}))
    write_matrix(tmp_path, CrossSite(("paris",), matrix, "grade", 3))
    write_evidence(tmp_path, judge, seed=1)
    return tmp_path


def test_history_and_predictions_have_the_columns_of_the_task(run, task):
    with (run / "history.csv").open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert [key for key in first if key.startswith("val_")] == ["val_loss", "val_off"]
    assert (first["val_off"], second["val_off"]) == ("0.5", "0.3")
    assert (run / "predictions.csv").read_text().splitlines()[:2] == [
        "file,patient,grade,said",
        "a.png,p,0,0.1",
    ]
    read = read_predictions(run / "predictions.csv", task.judge)
    assert read.outputs.tolist() == [0.1, 1.2, 0.6, 0.0]
    assert read.labels.tolist() == [0, 1, 2, 1]
    with pytest.raises(DataError, match="expected file,patient,label,prediction and one p_<class>"):
        read_predictions(run / "predictions.csv", TASKS["classification"].judge)


def test_scores_stand_in_the_table_and_in_tracking(run, task):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["federated"]["off"] == 0.5  # rounded: 0, 1, 1, 0 of 0, 1, 2, 1
    table = results_table(metrics, task.judge)
    assert [str(column.header) for column in table.columns] == ["Model", "Grades off"]
    record = record_of({}, read_run_folder(run))
    assert record.summary == {"off": 0.5}
    assert record.curves[""][1]["val_off"] == 0.3
    assert set(record.curves["paris"][0]) == {
        "round", "train_loss", "val_loss", "val_off", "images_per_second",
    }  # fmt: skip
    assert record.tables["results"][0] == ["model", "grades off", "n"]


def test_the_report_says_it_in_the_words_of_the_task(run):
    page = write_report(run).read_text()
    text = " ".join(html.unescape(page).split())
    assert "0.500 below the best single site" in text
    assert "<div><dt>Grades off</dt><dd>0.500</dd></div>" in text
    assert "validation grades off, from 0.500 to 0.300" in text
    assert "Heat map of the grades off, model by row. Federated: paris 0.300" in text
    assert "higher is better in every column" not in text
    for word in ("MCC", "Confusion", "ROC", "Brier", "class by class"):
        assert word not in text
    assert not (run / "evidence.json").exists()


def test_the_model_card_holds_its_figures_and_nothing_of_classes(run, monkeypatch):
    monkeypatch.setattr("primia_flwr.reporting.model_card.weights_digest", lambda path: "00")
    metrics = model_facts(read_run_folder(run))["metrics"]
    assert metrics == {"images": 4, "figures": {"off": 0.5}, "patients": None, "intervals": {}}


def test_the_account_of_secure_sums_uses_its_words(task):
    row = SumRow(1, "train", 1, ["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"],
                 numbers=["incoming-distances", "local-distances"])  # fmt: skip
    said = " ".join(
        p for chapter in account([row], task, one_machine=False) for p in chapter.points
    )
    assert "its distances from the true grade, their distances from the true grade." in said
    assert "sums of distances from the true grade say something about single images" in said


def test_the_live_view_shows_its_objective(task, tmp_path, capsys):
    with LiveView(tmp_path, 2, [], task.aim, quiet=False) as view:
        append_event(tmp_path, "round_finished", round=1, train_loss=1, val_off=0.25, sites=2)
        view.update()
    assert "train loss 1.000  val loss -  val grades off 0.250" in capsys.readouterr().err


def test_the_chapter_of_a_search_ranks_by_the_lowest(task, tmp_path):
    def entry(number, off, status):
        rung = {"rounds": 1, "best_round": 1, "off": off, "loss": 0.5, "image_passes": 6}
        return {"configuration": number, "values": {"training.learning_rate": 0.1 * (number + 1)},
                "status": status, "reason": "", **rung, "rungs": [rung]}  # fmt: skip

    content = {
        "method": "random search", "eta": 3, "seed": 1, "chosen": None, "image_passes": 18,
        "space": {"training.learning_rate": {"low": 0.1, "high": 1.0}},
        "rungs": [{"configurations": 3, "rounds": 1}],
        "configurations": [entry(0, 0.5, "out"), entry(1, 0.25, "out"), entry(2, 0.75, "out")],
    }  # fmt: skip
    (tmp_path / "search.json").write_text(json.dumps(content))
    chapter = search_chapter(tmp_path, task)
    assert "The grades off is that of the distances from the true grade summed" in chapter
    order = [chapter.index(f'<th scope="row">{number}</th>') for number in (1, 0, 2)]
    assert order == sorted(order)
    with pytest.raises(DataError, match=r"search\.json"):
        search_chapter(tmp_path, TASKS["classification"])


def test_what_it_has_not_is_refused_in_a_sentence(task, tmp_path):
    readings = [Reading("a", MODEL, "", predictions([0.0] * 4))]
    with pytest.raises(ConfigError, match="has no comparison of its own"):
        task.judge.compare(readings, Settings(), validation={}, groups={}, experts=None)
    with pytest.raises(ConfigError, match=r"report\.saliency=2 with data\.task=grade; expected 0"):
        check_explained(task, "report.saliency", 2)
    check_explained(task, "report.saliency", 0)
    with pytest.raises(DataError, match=r"metrics\.json"):
        results_by_name({"federated": {"mcc": 0.5}}, task.judge)


def test_learning_has_its_loss_with_hard_and_mixed_labels(task):
    logits, labels = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([2])  # expects grade 1
    loss = task.loss(TrainingConfig())
    assert float(loss(logits, labels)) == pytest.approx(1)
    assert float(loss(logits, torch.tensor([[0.5, 0.0, 0.5]]))) == pytest.approx(0)
    assert task.unit_loss(TrainingConfig())(logits, labels).tolist() == pytest.approx([1])


def test_the_configuration_takes_it_by_its_yaml():
    assert parse(Experiment, compose("config", ["task=grade"])).task is TASKS["grade"]
    with pytest.raises(ConfigError, match=r"data\.task=grades; expected one of"):
        DataConfig(task="grades")
