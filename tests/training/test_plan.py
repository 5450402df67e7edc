from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.training.plan import LocalPlan, epoch_batches, plan_round
from tests.training.tiny_training import PLAIN


@given(count=st.integers(1, 300), size=st.integers(1, 70), epoch=st.integers(0, 5))
def test_an_epoch_has_every_image_once_in_even_batches(count: int, size: int, epoch: int) -> None:
    batches = epoch_batches(count, size, seed=1, epoch=epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-count // size)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = torch.cat(epoch_batches(50, 8, seed=1, epoch=0))
    torch.rand(3)
    assert torch.equal(first, torch.cat(epoch_batches(50, 8, seed=1, epoch=0)))
    assert not torch.equal(first, torch.cat(epoch_batches(50, 8, seed=1, epoch=1)))
    assert not torch.equal(first, torch.cat(epoch_batches(50, 8, seed=2, epoch=0)))


def test_rounds_by_epochs() -> None:
    cfg = replace(PLAIN, batch_size=10, local_epochs=2)  # 35 images: 4 batches an epoch
    plan = plan_round(cfg, num_examples=35, round_number=3, num_rounds=5)
    assert plan == LocalPlan(start_step=16, total_steps=40, max_epochs=2)
    assert plan.num_batches(4) == 8


def test_rounds_by_batches() -> None:
    cfg = replace(PLAIN, sync_every_n_batches=7)
    plan = plan_round(cfg, num_examples=35, round_number=3, num_rounds=5)
    assert plan == LocalPlan(start_step=14, total_steps=35, max_batches=7)
    assert plan.num_batches(4) == 7


def test_the_tighter_bound_counts() -> None:
    assert LocalPlan(0, 9, max_epochs=2, max_batches=5).num_batches(4) == 5
    assert LocalPlan(0, 9, max_epochs=1, max_batches=5).num_batches(4) == 4


def test_a_plan_needs_a_bound() -> None:
    with pytest.raises(ValueError, match="max_epochs or max_batches"):
        LocalPlan(0, 9)
