"""Scores that cannot be right are no diagnosis, whether or not a batch is audited."""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.cli.inference.findings import basis, finding, not_plausible, summary
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.crypten import program as crypten_program
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.plan import Linear
from primia_flwr.inference.protocol.online import DataOwner, ModelOwner
from primia_flwr.inference.protocol.plausibility import (
    HONEST_LIMIT,
    Verdict,
    judged,
    limit_of,
    limit_that_holds,
    verdict,
)
from primia_flwr.inference.service.classify import opinion_of
from primia_flwr.inference.service.crypten_batches import StockSession
from primia_flwr.inference.service.negotiation import Answer
from tests.inference.memory_link import deal, linked
from tests.inference.overflow.test_checked_online import audited
from tests.inference.protocol.test_online import Identity, small_model

NAN = math.nan


@pytest.mark.parametrize(
    ("largest", "limit"),
    [(0.0, 1.0), (0.05, 1.0), (0.5, 8.0), (0.51, 16.0), (3.0, 64.0), (1e5, 2.0**18)],
)
def test_the_limit_is_16_times_the_largest_score_as_a_power_of_two(
    largest: float, limit: float
) -> None:
    assert limit_of(largest) == limit


@pytest.mark.parametrize(
    ("offered", "holds"), [(0.0, 2.0**18), (64.0, 64.0), (1e30, 2.0**18), (2.0**18, 2.0**18)]
)
def test_a_model_owner_can_make_the_limit_narrower_only(offered: float, holds: float) -> None:
    assert limit_that_holds(offered) == holds


def test_each_image_is_judged_alone_by_hand() -> None:
    scores = torch.tensor([[1.0, -7.5], [8.0, 0.0], [NAN, 0.0], [0.0, -3e10]]).double()
    found = judged(scores, 8.0)
    assert found[0].tolist() == [1.0, -7.5]
    assert found[1:].isnan().all()
    assert [verdict(row) for row in found] == [Verdict.PLAUSIBLE, *[Verdict.IMPLAUSIBLE] * 3]
    assert judged(scores, 0.0)[:2].tolist() == scores[:2].tolist()
    assert verdict(None) == Verdict.OUTSIDE


class Cuts(DataOwner):
    """One number of one layer is off by 2^48, as local truncation has it now and then."""

    at, sign = (0, 0), 1

    def _linear(self, step: Linear) -> Tensor:
        share = super()._linear(step)
        if step.weight == self.at[0]:
            share = share.clone()
            flat = share.view(-1)
            flat[self.at[1] % flat.numel()] += self.sign << 48
        return share


def ask(lowered: Lowered, image: Tensor, *, limit: float = HONEST_LIMIT, **of: object) -> Tensor:
    mine, theirs = deal(lowered)
    ends = linked()
    owner = ModelOwner(lowered.plan, theirs, ends[1], lowered.weights)
    thread = threading.Thread(target=owner.answer)
    thread.start()
    data = Cuts(lowered.plan, mine, ends[0], score_limit=limit)
    vars(data).update(of)
    with torch.inference_mode():
        scores = data.classify(image)
    thread.join(60)
    assert scores is not None
    return scores[0]


@pytest.mark.parametrize("limit", [0.0, 64.0])
def test_a_wrong_cut_is_no_diagnosis_in_any_layer(limit: float) -> None:
    """Attack: scores of 3e10, p = 1.000, and not a word; now they are none."""
    model = small_model("simpleconv")
    lowered = lower(model, (1, 1, 16, 16))
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        plain = model(image)[0]
    found = []
    for layer in range(5):
        for place in (1, 10_007, 100_003):
            scores = ask(lowered, image, limit=limit, at=(layer, place), sign=1)
            found.append(verdict(scores))
            if found[-1] == Verdict.PLAUSIBLE:  # another number of its window was larger
                assert (scores - plain).abs().max() < 0.02
    assert found[-3:] == [Verdict.IMPLAUSIBLE] * 3  # nothing hides in the last layer
    assert found.count(Verdict.IMPLAUSIBLE) > 5
    right = ask(lowered, image, limit=limit, at=(0, 0), sign=0)
    assert (right - plain).abs().max() < 0.02


def test_an_audited_batch_is_judged_by_the_calibrated_range_too() -> None:
    lowered = audited(lower(nn.Sequential(nn.ReLU(), Identity(2)), (1, 2)))
    values = torch.tensor([[100.0, 0.0]])
    assert verdict(ask(lowered, values, limit=128.0, sign=0)) == Verdict.PLAUSIBLE
    assert verdict(ask(lowered, values, limit=64.0, sign=0)) == Verdict.IMPLAUSIBLE


@pytest.mark.parametrize(("score", "right"), [(63.5, True), (64.0, False), (3e10, False)])
def test_the_yardsticks_scores_are_judged_as_well(
    monkeypatch: pytest.MonkeyPatch, score: float, right: bool
) -> None:
    monkeypatch.setattr(crypten_program, "run_data_owner", lambda *_: torch.tensor([[score, 0.0]]))
    counts = SimpleNamespace(bytes_sent=0, bytes_received=0, frames_sent=0)
    session = object.__new__(StockSession)
    session._channel = SimpleNamespace(counts=counts)  # type: ignore[assignment]
    session._provider = session._architecture = None  # type: ignore[assignment]
    session.offer = SimpleNamespace(score_limit=64.0)  # type: ignore[assignment]
    answer = session.classify(torch.zeros(1, 1, 16, 16))
    assert answer.scores is not None
    assert (verdict(answer.scores[0]) == Verdict.PLAUSIBLE) is right


def test_one_image_that_is_not_plausible_leaves_the_others_of_its_batch() -> None:
    answer = Answer(judged(torch.tensor([[1.0, 2.0], [3e10, 0.0]]).double(), 8.0), 1.0, 10, 20)
    good, bad = (opinion_of(answer, row, index=row, share=2) for row in range(2))
    assert good.scores is not None
    assert good.scores.tolist() == [1.0, 2.0]
    assert (good.verdict, bad.verdict, bad.scores) == (
        Verdict.PLAUSIBLE,
        Verdict.IMPLAUSIBLE,
        None,
    )
    assert opinion_of(Answer(None, 1.0, 1, 1), 0, index=0).verdict == Verdict.OUTSIDE


def test_what_the_clinician_reads() -> None:
    nothing = dict.fromkeys(("prediction", "p_ill", "p_well", "scores"))
    card = SimpleNamespace(model=ModelConfig(), classes=("ill", "well"), several=False)
    assert finding(card, None) == nothing
    assert finding(card, torch.tensor([0.0, math.log(3)]))["prediction"] == "well"
    # Findings by themselves: a probability each, and those of a half or more are told.
    several = SimpleNamespace(model=ModelConfig(), classes=("ill", "well"), several=True)
    told = finding(several, torch.tensor([0.0, math.log(3)]))
    assert told["prediction"] == "ill | well"
    assert (told["p_ill"], told["p_well"]) == pytest.approx((0.5, 0.75))
    assert finding(several, torch.tensor([-1.0, -2.0]))["prediction"] == "(none)"
    assert finding(several, None) == nothing
    assert "beyond 262144" in not_plausible("a.png", 0.0)
    assert "beyond 64" in not_plausible("a.png", 64.0)
    assert "NOT calibrated" in basis(0, audit=False)
    assert "on 500 images; every comparison was audited" in basis(500, audit=True)
    assert "no comparison was audited" in basis(500, audit=False)


@pytest.mark.parametrize(
    ("outside", "implausible", "skipped"),
    [(0, 0, {}), (1, 0, {}), (0, 1, {}), (0, 0, {"a.png": "damaged"})],
)
def test_an_image_without_a_diagnosis_is_no_success(
    outside: int, implausible: int, skipped: dict[str, str]
) -> None:
    facts = {
        **dict.fromkeys(("images", "seconds_per_image", "bytes_sent", "rounds"), 1),
        **{"skipped": skipped, "outside": outside, "implausible": implausible, "audit": False},
        "model": {"calibrated": 7},
    }
    told = summary(facts)
    assert told["ok"] is (outside + implausible + len(skipped) == 0)
    assert told["skipped"] == len(skipped)
    assert (told["calibrated"], told["audit"], told["implausible"]) == (7, False, implausible)


def test_a_fixed_point_number_below_the_limit_is_what_an_audit_takes_too() -> None:
    assert ring.encode(torch.tensor(HONEST_LIMIT), ring.ACTIVATION_BITS) == 1 << 31
