"""The ClientApp answers real messages on real (synthetic) images, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.site.opened import open_site
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, load_experiment, parse, to_yaml
from primia_flwr.data.dataset import load_site
from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.messages import keys, records
from primia_flwr.models import build_model
from primia_flwr.tasks.classification import TASK
from tests.clients.answering import answer_evaluate, answer_statistics, answer_train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def config_text(folder: Path, *overrides: str) -> str:
    tiny = [
        "data.synthetic.patients=60",
        "data.image_size=32",
        "model=simpleconv",
        "training.batch_size=16",
        f"data.cache_dir={folder}/cache",
        f"output_dir={folder}",
    ]
    return to_yaml(parse(Experiment, compose("config", [*tiny, *overrides])))


def context(text: str, **node_config: object) -> Context:
    return Context(1, 2, dict(node_config), RecordDict(), {"config": text})


def simulated(text: str, index: int = 0) -> Context:
    return context(text, **{"partition-id": index, "num-partitions": 3})


def asked(kind: str, content: RecordDict) -> Message:
    return Message(content, 2, kind)


def train_message(text: str, number: int = 1, **config: object) -> Message:
    experiment = load_experiment(text)
    model = build_model(experiment.model, outputs=3, channels=1, seed=1, first_weights=False)
    values = {
        keys.ROUND: number,
        keys.PIXEL_MEAN: [0.5],
        keys.PIXEL_STD: [0.25],
        keys.LABEL_COUNTS: [30, 20, 20],
        **config,
    }
    content = RecordDict(
        {
            keys.ARRAYS: records.to_arrays(model.state_dict()),
            keys.CONFIG: ConfigRecord(values),
        }
    )
    return asked("train", content)


def test_statistics_are_sums_of_the_sites_own_training_images(folder: Path) -> None:
    text = config_text(folder)
    reply = answer_statistics(asked("query.statistics", RecordDict()), simulated(text, 1))
    experiment = load_experiment(text)
    own = load_site(
        experiment.data,
        seed=1,
        site_index=1,
        num_sites=3,
        site_names=["site-1", "site-2", "site-3"],
    )
    metrics = reply.content.metric_records[keys.METRICS]
    pixels = own.train.images.double() / 255
    assert metrics["count"] == [own.train.images.numel()]
    assert metrics["total"][0] == pytest.approx(pixels.sum().item(), rel=1e-12)
    assert metrics["total_squares"][0] == pytest.approx((pixels**2).sum().item(), rel=1e-12)
    assert sum(metrics["label_counts"]) == len(own.train)
    assert metrics[keys.NUM_VAL] == len(own.val)
    assert reply.content.config_records[keys.SITE][keys.SITE_NAME] == "site-2"


def test_training_changes_the_model_and_reports_its_cost(folder: Path) -> None:
    text = config_text(folder)
    message = train_message(text)
    reply = answer_train(message, simulated(text))
    sent, got = message.content[keys.ARRAYS], reply.content[keys.ARRAYS]
    assert sent.keys() == got.keys()
    assert any(sent[name].data != got[name].data for name in sent)
    metrics = reply.content.metric_records[keys.METRICS]
    site = open_site(simulated(text))
    assert metrics[keys.WEIGHT] == metrics[keys.NUM_EXAMPLES] == len(site.data.train)
    incoming = records.get_evaluation(metrics, keys.INCOMING, TASK, 3)
    assert incoming is not None
    assert incoming.num_examples == len(site.data.val)
    progress = json.loads((site.folder / "progress.json").read_text())
    assert progress["round"] == 1


def test_what_is_not_trained_is_not_sent_back(folder: Path) -> None:
    """Ten arrays: the classifier's two, and the statistics of four norms."""
    text = config_text(folder, "model.trainable=head", "model.weights=first.pth")
    message = train_message(text)
    got = answer_train(message, simulated(text)).content[keys.ARRAYS]
    statistics = {f"features.{4 * n + 1}.running_{s}" for n in range(4) for s in ("mean", "var")}
    assert got.keys() == {"classifier.weight", "classifier.bias"} | statistics


@pytest.mark.parametrize(("weighting", "weight"), [("equal", 1.0), ("batches", 2.0)])
def test_weights_follow_the_rule(folder: Path, weighting: str, weight: float) -> None:
    text = config_text(folder, f"strategy.weighting={weighting}", "training.sync_every_n_batches=2")
    reply = answer_train(train_message(text), simulated(text))
    assert reply.content.metric_records[keys.METRICS][keys.WEIGHT] == weight


def test_the_same_message_gets_the_same_answer(folder: Path) -> None:
    text = config_text(folder)
    one, two = (answer_train(train_message(text), simulated(text)) for _ in range(2))
    arrays = [reply.content[keys.ARRAYS] for reply in (one, two)]
    assert all(arrays[0][name].data == arrays[1][name].data for name in arrays[0])


def test_evaluation_leaves_no_arrays(folder: Path) -> None:
    text = config_text(folder)
    message = train_message(text)
    reply = answer_evaluate(asked("evaluate", message.content), simulated(text))
    assert not reply.content.array_records
    assert records.get_evaluation(
        reply.content.metric_records[keys.METRICS], keys.INCOMING, TASK, 3
    )


def test_a_round_without_a_number_is_refused(folder: Path) -> None:
    text = config_text(folder)
    with pytest.raises(ProtocolError, match=r"server-round=0; expected the round's number"):
        answer_train(train_message(text, number=0), simulated(text))


def test_a_node_that_is_nobody_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="site-file"):
        open_site(context(config_text(folder)))
