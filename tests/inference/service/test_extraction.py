"""The attack that the query limit answers: a data owner that deviates reads the last layer.

It adds a shift to one number before the last layer. The scores then differ from those of the
unshifted query by a column of the weights (Lehmkuhl et al. 2021, Muse), and by several columns, in
bits of their own, where several numbers are shifted. Semi-honest security does not forbid this.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError, PolicyRefusal
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.plan import Open
from primia_flwr.inference.protocol import online
from primia_flwr.inference.protocol.online import DataOwner, ModelOwner
from primia_flwr.inference.service.extraction import LastLayer, Limits, limits_for
from primia_flwr.inference.service.query_log import QueryLog
from primia_flwr.models.registry import build_model
from tests.inference.memory_link import deal, linked

SHIFT = 16.0


class Deviating(DataOwner):
    """Shifts numbers before the last layer, in units of the fixed point; keeps what it gets."""

    shifts: Sequence[tuple[int, int]] = ()

    def _open(self, step: Open) -> None:
        if self.shifts and step == self._plan.openings[-1]:
            share = self._values[step.source].clone()
            for column, shift in self.shifts:
                share[0, column] += shift
            self._values[step.source] = share
        super()._open(step)


@pytest.fixture(autouse=True)
def no_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who deviates keeps scores, too, that an honest data owner takes for rubbish."""
    monkeypatch.setattr(online, "judged", lambda scores, limit: scores)


@pytest.fixture(scope="module")
def lowered() -> Lowered:
    model = build_model(ModelConfig(name="simpleconv"), outputs=3, channels=1, seed=0)
    return lower(model, (1, 1, 16, 16))


def query(lowered: Lowered, *shifts: tuple[int, int]) -> Tensor:
    mine, theirs = deal(lowered)
    ends = linked()
    owner = ModelOwner(lowered.plan, theirs, ends[1], lowered.weights)
    thread = threading.Thread(target=owner.answer)
    thread.start()
    attacker = Deviating(lowered.plan, mine, ends[0])
    attacker.shifts = shifts
    scores = attacker.classify(torch.zeros(1, 1, 16, 16))
    thread.join(60)
    assert scores is not None
    return scores[0]


def test_one_query_a_column_reads_the_last_layer(lowered: Lowered) -> None:
    weight = ring.decode(lowered.weights[-1].weight, ring.WEIGHT_BITS)
    base = query(lowered)
    for column in (0, 17, 255):
        shift = int(SHIFT * 2**ring.ACTIVATION_BITS)
        stolen = (query(lowered, (column, shift)) - base) / SHIFT
        # Two scores of one unit each, divided by the shift.
        assert (
            stolen - weight[:, column]
        ).abs().max() <= 2 * 2.0**-ring.ACTIVATION_BITS / SHIFT * 4


def columns_of(answer: Tensor, base: Tensor, count: int, bits: int) -> list[list[int]]:
    """Read several columns out of one answer, from the lowest digit up."""
    unit, noise = 2.0**ring.ACTIVATION_BITS, 3
    found = [[0] * count for _ in range(len(base))]
    for row, (got, was) in enumerate(zip(answer.tolist(), base.tolist(), strict=True)):
        rest = ((int(got * unit) - int(was * unit)) % 2**48 + 2 ** (noise - 1)) >> noise
        for index in range(count):
            digit = rest % 2**bits
            found[row][index] = digit - 2**bits if digit >> (bits - 1) else digit
            rest = (rest - found[row][index]) >> bits
    return found


def test_several_columns_fit_into_one_answer(lowered: Lowered) -> None:
    layer = LastLayer.of(lowered)
    assert (layer.width, layer.bits) == (256, 13)  # |w| < 2^-4 = 1 / sqrt(256): 12 bits, a sign
    count = int((64 - 16 - 3) // layer.bits)
    assert count == 3
    base = query(lowered)
    shifts = tuple((column, 1 << (16 + 3 + column * layer.bits)) for column in range(count))
    stolen = columns_of(query(lowered, *shifts), base, count, layer.bits)
    assert stolen == lowered.weights[-1].weight[:, :count].tolist()  # exactly, to the last bit


def test_the_limit_leaves_most_of_the_layer_unread(tmp_path: Path, lowered: Lowered) -> None:
    layer = LastLayer.of(lowered)
    limits = limits_for(layer, limit=0, life_limit=0, accepted=False)
    assert layer.answers == 70  # 256 * 13 bits, 48 an answer: 69.3
    assert limits == Limits(17, 17)
    file = tmp_path / "queries.jsonl"
    for _day in range(3):  # a day's limit is no help against a model's life
        log = QueryLog(file, limit=17, period=1e-9, model="a", life_limit=limits.life)
        with suppress(PolicyRefusal):
            for _ in range(17):
                log.add("clinic", 1)
    with pytest.raises(PolicyRefusal, match="life_limit=17"):
        log.add("clinic", 1)
    answers = len(file.read_text().splitlines())
    assert answers == 17
    assert answers * layer.columns < layer.width / 3


@pytest.mark.parametrize(
    ("limit", "life_limit", "words"),
    [
        (70, 0, "limit=70: 70 answers read the last layer"),
        (10**9, 10, "limit=1000000000"),
        (0, 70, "life_limit=70: 70 answers"),
    ],
)
def test_a_limit_that_bounds_nothing_must_be_meant(
    lowered: Lowered, limit: int, life_limit: int, words: str
) -> None:
    layer = LastLayer.of(lowered)
    with pytest.raises(ConfigError, match=words) as refused:
        limits_for(layer, limit=limit, life_limit=life_limit, accepted=False)
    assert "accept_extraction=true" in str(refused.value)
    limits_for(layer, limit=limit, life_limit=life_limit, accepted=True)
    assert limits_for(layer, limit=69, life_limit=69, accepted=False) == Limits(69, 69)


@pytest.mark.parametrize(
    ("width", "bits", "answers"),
    [(512, 16, 171), (256, 16, 86), (2048, 14, 598), (3, 16, 1), (256, 1, 6)],
)
def test_answers_that_read_a_layer(width: int, bits: int, answers: int) -> None:
    assert LastLayer(width, bits).answers == answers


def test_a_layer_that_one_answer_reads_has_no_limit_below() -> None:
    with pytest.raises(ConfigError, match="limit=1: 1 answers read the last layer"):
        limits_for(LastLayer(3, 16), limit=0, life_limit=0, accepted=False)
