"""SCAFFOLD on quadratics, whose every step one can compute by hand, and in whole runs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

from clients.handlers.steered import check_steered
from clients.mods.variates import variates_mod
from clients.site.opened import Budget, OpenSite, SiteContext
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.config.load import compose_experiment, to_yaml
from primia_flwr.errors import ConfigError, DivergenceError, ProtocolError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages import variates
from primia_flwr.messages.keys import ARRAYS, CONFIG
from primia_flwr.messages.secure import MASKED, UPDATE
from primia_flwr.models import build_model
from primia_flwr.training.step import TrainingStep
from strategies.aggregators.aggregator import Request
from strategies.registry import build_aggregator
from tests.strategies.conftest import FakeGrid
from tests.walks.federation import Federation

SITES = ("a", "b")
RATE, STEPS = 0.1, 2
# Site k's loss is h/2 (x - m)^2: gradient h (x - m). The sum's minimum is (0*1 + 4*3)/(1 + 3) = 3;
# the mean of the two's own minima, to which many local steps of FedAvg go, is 2.
CURVES = {"a": (1.0, 0.0), "b": (3.0, 4.0)}
MODEL = {"w": np.zeros(1, np.float32)}


def experiment(**training: Any) -> Experiment:
    return Experiment(
        federation=FederationConfig(rounds=400, sites=list(SITES), min_sites=1),
        strategy=StrategyConfig(name="scaffold", weighting="equal"),
        aggregation=AggregationConfig(run="0" * 32),
        model=ModelConfig(name="simpleconv", norm="group"),
        training=TrainingConfig(
            optimizer="sgd", momentum=0.0, learning_rate=RATE, min_learning_rate=RATE,
            schedule="constant", warmup=0.0, sync_every_n_batches=STEPS, **training,
        ),
    )  # fmt: skip


class Quadratic:
    """A site that descends its own quadratic, behind the real mod."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.absent, self.lost = name, False, False
        self.h, self.m = CURVES[name]
        asked = experiment()
        data = SimpleNamespace(train=[0] * 8)
        data.train = type("Images", (list,), {"classes": ("x", "y")})(data.train)
        budget = Budget(folder, "patient", None, 1e-5)
        opened = OpenSite(
            name, asked, data, torch.device("cpu"), folder / name, True, budget  # type: ignore[arg-type]
        )  # fmt: skip
        context = Context(1, 1, {"partition-id": 0}, RecordDict(), {"config": to_yaml(asked)})
        self.context = SiteContext(context, opened)

    def answer(self, message: Message) -> Message | None:
        reply = variates_mod(message, self.context, self._descend)
        reply.content["site"] = ConfigRecord({"name": self.name, "outputs": 2})
        return None if self.lost else reply

    def _descend(self, message: Message, context: Context) -> Message:
        x = message.content.array_records[ARRAYS]["w"].numpy()
        assert isinstance(context, SiteContext)
        added = context.site.correction["w"].numpy()
        for _ in range(STEPS):
            x = x - np.float32(RATE) * (np.float32(self.h) * (x - np.float32(self.m)) + added)
        numbers: Any = {
            "weight": 1.0, "num-examples": 8, "num-batches": STEPS, "train-loss": 1.0,
            "incoming-loss-sum": 1.0, "incoming-num-examples": 4,
            "incoming-confusion": [2, 0, 0, 2],
        }  # fmt: skip
        arrays = ArrayRecord({"w": Array(x.astype(np.float32))})
        content = RecordDict({ARRAYS: arrays, "metrics": MetricRecord(numbers)})
        return Message(content, reply_to=message)


class Rounds:
    """The coordinator and its two sites."""

    def __init__(self, folder: Path) -> None:
        self.sites = {name: Quadratic(name, folder) for name in SITES}
        self._fake = FakeGrid(dict(enumerate(self.sites.values(), 1)))  # type: ignore[arg-type]
        self._grid = RosterGrid(self._fake, list(SITES))
        for node, name in enumerate(SITES, 1):
            self._grid.introduce(node, name)
        self._grid.select()
        self.x, self.number = MODEL, 0
        self.begin()

    def begin(self, state: Any = None) -> None:
        """Start a coordinator, with what another left."""
        self.coordinator = build_aggregator(
            experiment(), model=MODEL, parameters=["w"], outputs=2, flower_run=1
        )
        if state is not None:
            self.coordinator.load_state(state)

    def train(self) -> float:
        self.number += 1
        asked = Request(self.number, self.x, ConfigRecord({}), 0.02)
        outcome = self.coordinator.train(asked, self._grid, lambda row: None)
        assert outcome.arrays is not None, outcome.rows
        self.x = outcome.arrays
        return float(self.x["w"][0])

    @property
    def common(self) -> float:
        return float(self.coordinator.state()["variate/w"][0])


@pytest.fixture
def rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    monkeypatch.setattr("primia_flwr.models.empty.statistics_arrays", lambda *_, **__: frozenset())
    return Rounds(tmp_path)


def test_two_rounds_by_hand(rounds: Rounds) -> None:
    # Round 1, no variates: a stays at 0; b: 0 -> 1.2 -> 1.2 + 0.1*3*2.8 = 2.04. x = 1.02.
    # c_a = 0, c_b = (0 - 2.04) / 0.2 = -10.2, c = -5.1.
    assert rounds.train() == pytest.approx(1.02, abs=1e-6)
    assert rounds.common == pytest.approx(-5.1, abs=1e-5)
    # Round 2: a adds -5.1: 1.02 -> 1.02 - 0.1 (1.02 - 5.1) = 1.428 -> 1.428 + 0.3672 = 1.7952;
    # b adds 5.1: 1.02 -> 1.02 - 0.1 (3 (1.02 - 4) + 5.1) = 1.404 -> 1.404 + 0.7788 - 0.51 = 1.6728
    assert rounds.train() == pytest.approx((1.7952 + 1.6728) / 2, abs=1e-6)
    # c_a = 0 + 5.1 + (1.02 - 1.7952)/0.2 = 1.224; c_b = -10.2 + 5.1 - 3.264 = -8.364
    kept = [s.context.site.kept("variate").load(2)["variate"][0] for s in rounds.sites.values()]
    assert kept == pytest.approx([1.224, -8.364], abs=1e-5)
    assert rounds.common == pytest.approx((1.224 - 8.364) / 2, abs=1e-5)


def test_it_ends_in_the_minimum_of_the_sum_where_the_mean_does_not(rounds: Rounds) -> None:
    for _ in range(120):
        x = rounds.train()
    assert x == pytest.approx(3.0, abs=1e-4)
    assert rounds.common == pytest.approx(0.0, abs=1e-3), "gradients cancel there"
    # FedAvg with two steps: y = m + (1 - 0.1 h)^2 (x - m), so x = (1.96 + 0.81x + 0.49x)/2: 2.914
    y, before = 0.0, -1.0
    while abs(y - before) > 1e-9:
        before = y
        y = sum(m + (1 - RATE * h) ** STEPS * (y - m) for h, m in CURVES.values()) / 2
    assert y == pytest.approx((4 * 0.51) / (2 - 0.81 - 0.49), abs=1e-6)
    assert abs(y - 3.0) > 0.05


def test_the_mean_of_the_variates_is_that_of_the_sites_whoever_was_lost(rounds: Rounds) -> None:
    """A variate whose change did not arrive is not gone on with."""
    rounds.train()
    rounds.sites["b"].lost = True
    rounds.train()
    rounds.sites["b"].lost = False
    rounds.train()
    kept = [s.context.site.kept("variate").load(3)["variate"][0] for s in rounds.sites.values()]
    assert rounds.common == pytest.approx(sum(kept) / 2, abs=1e-5)


def test_a_coordinator_that_starts_anew_goes_on(rounds: Rounds, tmp_path: Path) -> None:
    other = Rounds(tmp_path / "other")
    for _ in range(2):
        rounds.train()
        other.train()
    other.begin(other.coordinator.state())
    assert other.train() == rounds.train()
    assert other.common == rounds.common


def test_where_a_site_has_left_all_begin_anew(rounds: Rounds, tmp_path: Path) -> None:
    """The mean of variates of which one is gone is nobody's: a bias that would stay."""
    rounds.train()
    state = rounds.coordinator.state()
    rounds.begin({**state, "sent/rounds/gone": np.array([1])})
    assert rounds.common == 0
    assert [int(rounds.coordinator.state()[f"sent/rounds/{site}"][0]) for site in SITES] == [0, 0]


def test_a_correction_is_added_to_every_gradient() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    cfg = replace(experiment().training, weight_decay=0.0)
    step = TrainingStep(
        layer, cfg, torch.device("cpu"), loss=nn.MSELoss(), optimizer_state=None,
        correction={"weight": torch.full((1, 1), 3.0)},
    )  # fmt: skip
    # the loss (2 - 1)^2 has gradient 2 (2 - 1) = 2; w = 2 - 0.1 (2 + 3)
    step(torch.ones(1, 1), torch.ones(1, 1), 0.1)
    assert layer.weight.item() == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(2, np.float32), r"float32 \(2,\); expected finite float32 \(1,\)"),
        (np.zeros(1, np.float64), r"float64 \(1,\); expected finite float32 \(1,\)"),
        (np.full(1, np.nan, np.float32), r"expected finite float32 \(1,\)"),
    ],
)
def test_a_variate_that_is_none_of_its_parameter_is_refused(array: Any, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        variates.apart({**MODEL, "variate/w": array})


def test_a_variate_of_nothing_and_a_missing_one_are_refused(rounds: Rounds) -> None:
    with pytest.raises(ProtocolError, match="of a parameter of the model"):
        variates.apart({**MODEL, "variate/v": MODEL["w"]})
    arrays = ArrayRecord({"w": Array(MODEL["w"])})
    config = ConfigRecord({"server-round": 1, "shared-rounds": [0, 0]})
    message = Message(RecordDict({ARRAYS: arrays, CONFIG: config}), 1, "train")
    with pytest.raises(ProtocolError, match="variate of 'w' is missing"):
        rounds.sites["a"].answer(message)


@pytest.mark.parametrize(("size", "refused"), [(499.0, False), (501.0, True)])
def test_a_variate_moves_no_model_to_where_no_training_does(size: float, refused: bool) -> None:
    """Two steps of 0.1 move a kernel of 0 by a fifth of the correction; its bound is 100."""
    cfg = experiment()
    model = build_model(cfg.model, outputs=2, channels=1, seed=0)
    nn.init.zeros_(model.get_parameter("classifier.weight"))
    correction = {"classifier.weight": torch.full((2, 256), -size)}
    site: Any = SimpleNamespace(
        experiment=cfg, correction=correction, data=SimpleNamespace(train=range(64))
    )
    if not refused:
        return check_steered(site, model, 1)
    with pytest.raises(DivergenceError, match=r"moved by its control variate, the model .* 100\.2"):
        check_steered(site, model, 1)
    assert not model.get_parameter("classifier.weight").any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("training.optimizer=adamw", "training.optimizer=adamw"),
        ("training.momentum=0.9", "training.momentum=0.9 with strategy.name=scaffold; expected 0"),
        ("training.gradient_clip=1", "training.gradient_clip=1"),
        ("training.proximal_mu=0.1", "training.proximal_mu=0.1"),
        ("strategy.weighting=images", "strategy.weighting=images.*over all sites alike"),
        ("aggregation.share=0.1", "aggregation.share=0.1 with strategy.name=scaffold; expected 1"),
        ("aggregation=plain aggregation.float_mean=true", "aggregation.float_mean=True.*false"),
        ("privacy=dp_sgd privacy.epsilon=3", "privacy.mode=dp_sgd with strategy.name=scaffold"),
        ("privacy=dp_aggregate privacy.epsilon=3", "no clipping bounds and no noise hides"),
    ],
)
def test_what_would_make_a_variate_wrong_or_tell_too_much_is_refused(words: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose_experiment(["strategy=scaffold", *words.split()])


def test_masks_leave_no_trace_and_two_vectors_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)
    words = ("strategy=scaffold", "federation.rounds=2", "federation.min_sites=3")
    models = []
    for way in ("secure", "plain"):
        run = Federation(tmp_path / way, *words, f"aggregation={way}")
        run.run()
        models.append(hashlib.sha256((run.folder / "model.safetensors").read_bytes()).hexdigest())
        if way == "secure":
            sent = run.sites[0].sent[1].array_records[MASKED][UPDATE].data
    assert models[0] == models[1]
    kept = next((tmp_path / "plain").rglob("variate-000002.safetensors"))
    entries = (kept.stat().st_size - 8) // 4  # a short header beside the numbers
    assert len(sent) // 8 == pytest.approx(entries, abs=64)
