"""The attack that the query limit answers: a data owner that deviates reads the last layer.

It adds a shift to one number before the last layer. The scores then differ from those of the
unshifted query by a column of the weights (Lehmkuhl et al. 2021, Muse): as many queries as the
layer is wide, and one more, give all of it. Semi-honest security does not forbid this.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from primia_flwr.config.training import ModelConfig
from primia_flwr.crypto import ring
from primia_flwr.crypto.lowering import Lowered, lower
from primia_flwr.crypto.online import DataOwner, ModelOwner
from primia_flwr.crypto.plan import Open
from primia_flwr.crypto.query_log import QueryLog
from primia_flwr.errors import PolicyRefusal
from primia_flwr.models.registry import build_model
from tests.crypto.memory_link import deal, linked

SHIFT = 16.0


class Deviating(DataOwner):
    """Shifts one number before the last layer."""

    at: int | None = None

    def _open(self, step: Open) -> None:
        if self.at is not None and step == self._plan.openings[-1]:
            share = self._values[step.source].clone()
            share[0, self.at] += int(SHIFT * 2**ring.ACTIVATION_BITS)
            self._values[step.source] = share
        super()._open(step)


@pytest.fixture(scope="module")
def lowered() -> Lowered:
    model = build_model(ModelConfig(name="simpleconv"), num_classes=3, channels=1, seed=0)
    return lower(model, (1, 1, 16, 16))


def query(lowered: Lowered, at: int | None) -> Tensor:
    mine, theirs = deal(lowered)
    ends = linked()
    owner = ModelOwner(lowered.plan, theirs, ends[1], lowered.weights)
    thread = threading.Thread(target=owner.answer)
    thread.start()
    attacker = Deviating(lowered.plan, mine, ends[0])
    attacker.at = at
    scores = attacker.classify(torch.zeros(1, 1, 16, 16))
    thread.join(60)
    return scores[0]


def test_one_query_a_column_reads_the_last_layer(lowered: Lowered) -> None:
    weight = ring.decode(lowered.weights[-1].weight, ring.WEIGHT_BITS)
    base = query(lowered, None)
    for column in (0, 17, 255):
        stolen = (query(lowered, column) - base) / SHIFT
        # Two scores of one unit each, divided by the shift.
        assert (
            stolen - weight[:, column]
        ).abs().max() <= 2 * 2.0**-ring.ACTIVATION_BITS / SHIFT * 4


def test_the_limit_leaves_most_of_the_layer_unread(tmp_path: Path, lowered: Lowered) -> None:
    width = lowered.plan.openings[-1].shape[1]
    log = QueryLog(tmp_path / "queries.jsonl", limit=20)
    for _ in range(20):
        log.add("clinic", 1)
    with pytest.raises(PolicyRefusal, match="limit=20"):
        log.add("clinic", 1)
    assert width / 10 > 20 - 1
    assert len((tmp_path / "queries.jsonl").read_text().splitlines()) == 20
