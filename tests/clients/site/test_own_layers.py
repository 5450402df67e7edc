"""A site's own layers: put into every model that comes, kept of one run, in no answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.site.opened import OpenSite, open_site
from clients.site.own_layers import keep_own_layers, put_own_layers
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import compose_experiment, load_experiment, to_yaml
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.messages import keys, records
from primia_flwr.models import build_model, load_model
from primia_flwr.models.frozen_arrays import own_of
from tests.clients.answering import answer_evaluate, answer_train

HEAD = {"classifier.weight", "classifier.bias"}


def _text(folder: Path, *overrides: str) -> str:
    tiny = ["data.synthetic.patients=60", "data.image_size=32", "model=simpleconv"]
    tiny += ["training.batch_size=16", f"data.cache_dir={folder}/cache", f"output_dir={folder}"]
    experiment = compose_experiment([*tiny, "aggregation=plain", *overrides])
    return to_yaml(experiment)


def _context(text: str) -> Context:
    return Context(1, 2, {"partition-id": 0, "num-partitions": 3}, RecordDict(), {"config": text})


def _message(text: str, kind: str, number: int, **more: int) -> Message:
    cfg = load_experiment(text).model
    model = build_model(cfg, outputs=3, channels=1, seed=1, first_weights=False)
    values = {keys.PIXEL_MEAN: [0.5], keys.PIXEL_STD: [0.25], keys.LABEL_COUNTS: [30, 20, 20]}
    config = ConfigRecord({keys.ROUND: number, **values, **more})
    arrays = records.to_arrays(model.state_dict())
    return Message(RecordDict({keys.ARRAYS: arrays, keys.CONFIG: config}), 2, kind)


@pytest.fixture
def site(tmp_path: Path) -> OpenSite:
    experiment = load_experiment(_text(tmp_path, "model.shared=body"))
    named = replace(experiment, aggregation=replace(experiment.aggregation, run="a" * 32))
    return open_site(_context(to_yaml(named)))


def _head(site: OpenSite, number: int) -> float:
    model = build_model(site.experiment.model, outputs=3, channels=1, seed=1)
    put_own_layers(site, model, number)
    return float(model.state_dict()["classifier.bias"][0])


def _keep(site: OpenSite, value: float, number: int) -> None:
    model = build_model(site.experiment.model, outputs=3, channels=1, seed=1)
    state = {name: torch.full_like(v, value) for name, v in model.state_dict().items()}
    keep_own_layers(site, model, state, number)


def test_those_of_the_round_or_the_last_before_are_put_into_a_model(site: OpenSite) -> None:
    first = _head(site, 0)
    _keep(site, 1.0, 1)
    _keep(site, 4.0, 4)
    assert [_head(site, n) for n in (0, 1, 2, 3, 4, 9)] == [first, 1.0, 1.0, 1.0, 4.0, 4.0]
    _keep(site, 2.0, 2)  # a run that goes on from an older checkpoint leaves the later rounds
    assert [_head(site, n) for n in (1, 2, 4)] == [1.0, 2.0, 2.0]


def test_those_of_another_run_or_model_are_not_used(site: OpenSite) -> None:
    first = _head(site, 0)
    _keep(site, 1.0, 3)
    aggregation = replace(site.experiment.aggregation, run="b" * 32)
    other = replace(site, experiment=replace(site.experiment, aggregation=aggregation))
    assert _head(other, 5) == first
    rounds = replace(site.experiment.federation, rounds=site.experiment.federation.rounds + 1)
    longer = replace(site, experiment=replace(site.experiment, federation=rounds))
    assert _head(longer, 5) == 1.0, "a run may go on for more rounds"
    site.kept("own-layers").save(4, {"classifier.bias": np.zeros(7, np.float32)})
    with pytest.raises(DataError, match="those of another model; expected 2 arrays of this run"):
        _head(site, 4)


def test_the_answer_has_the_body_alone_and_the_next_verdict_is_with_the_own_head(
    tmp_path: Path,
) -> None:
    text = _text(tmp_path, "model.shared=body")
    reply = answer_train(_message(text, "train", 1), _context(text))
    whole = set(_message(text, "train", 1).content.array_records[keys.ARRAYS])
    assert set(reply.content.array_records[keys.ARRAYS]) == whole - HEAD
    before = reply.content.metric_records[keys.METRICS]
    later, own = (
        answer_evaluate(_message(text, "evaluate", 1, **more), _context(text))
        for more in ({keys.OWN_ROUND: 0}, {})
    )
    loss = f"{keys.INCOMING}-loss-sum"
    assert later.content.metric_records[keys.METRICS][loss] == before[loss]
    assert own.content.metric_records[keys.METRICS][loss] != before[loss]
    assert keys.ARRAYS not in own.content
    assert not (tmp_path / "sites/site-1/model").exists()
    answer_evaluate(_message(text, "evaluate", 1, **{keys.RESULT: 1}), _context(text))
    saved, card = load_model(tmp_path / "sites/site-1/model")
    kept = open_site(_context(text)).kept("own-layers").load(1)
    assert card.site == "site-1"
    assert set(kept) == HEAD
    assert np.array_equal(saved.state_dict()["classifier.bias"].numpy(), kept["classifier.bias"])


@pytest.mark.parametrize(
    ("shared", "norm", "expected"),
    [("all", "batch", 0), ("body", "batch", 2), ("no_norm", "batch", 16), ("no_norm", "group", 8)],
)
def test_which_arrays_stay(shared: str, norm: str, expected: int) -> None:
    cfg = ModelConfig(name="simpleconv", norm=norm, shared=shared)
    assert len(own_of(cfg, build_model(cfg, outputs=3, channels=1))) == expected


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.shared=heads"], "model.shared=heads; expected one of all, no_norm, body"),
        (["model=scattering", "model.shared=no_norm"], "which has no norm layers"),
        (["model.trainable=head", "model.weights=w.pth"], "nothing that is trained would be"),
        (["privacy=dp_sgd", "model.norm=group"], "privacy.mode=dp_sgd with model.shared=body"),
        (["search=demo"], "search with model.shared=all"),
        (["aggregation=relay", "strategy=cyclic"], "expected plain or secure"),
        (["aggregation=plain", "strategy=ensemble"], "each site has a model of its own already"),
    ],
)
def test_what_does_not_go_with_own_layers_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        compose_experiment(["model.shared=body", *overrides])
