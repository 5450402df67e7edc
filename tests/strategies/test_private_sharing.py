"""A part of an update with differential privacy: clipped and noised as it is sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load_file

from primia_flwr.config.load import compose_experiment
from primia_flwr.messages.secure import MASKED, UPDATE, aggregate_noise, report_layout
from tests.walks.federation import Federation

PART = ("aggregation.share=0.1", "federation.rounds=2", "federation.min_sites=3")
NOISE = ("privacy.epsilon=0", "privacy.noise_multiplier=1", "model.norm=group")


@pytest.fixture(autouse=True)
def _in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


def test_noise_is_planned_for_the_numbers_that_are_sent() -> None:
    """One number more on the grid is one rounding more in the sensitivity."""
    whole = compose_experiment(["privacy=dp_aggregate", *NOISE])
    part = compose_experiment(["privacy=dp_aggregate", *NOISE, "aggregation.share=0.1"])
    layout = report_layout(part, 1000, 3)
    assert layout.entries == part.num_sent(1000) == 100
    assert layout.clip == aggregate_noise(part, 100).clip == aggregate_noise(whole, 1000).clip
    fewer, more = aggregate_noise(part, 100).event, aggregate_noise(whole, 1000).event
    assert fewer.l2_sensitivity < more.l2_sensitivity


@pytest.mark.parametrize("mode", ["dp_aggregate", pytest.param("dp_sgd", marks=pytest.mark.slow)])
def test_a_private_run_sends_a_part_and_keeps_the_rest(tmp_path: Path, mode: str) -> None:
    steps = ("privacy.steps=2", "privacy.expected_batch=4") if mode == "dp_sgd" else ()
    run = Federation(tmp_path, f"privacy={mode}", *NOISE, *steps, *PART)
    run.run()
    model = load_file(run.folder / "model.safetensors")
    entries = sum(array.size for array in model.values() if array.dtype == np.float32)
    sent = [reply.array_records[MASKED][UPDATE].data for site in run.sites for reply in site.sent]
    assert {len(data) for data in sent} == {4 * round(0.1 * entries)}
    assert len(sent) == 6
    kept = load_file(next(run.folder.rglob("unsent-000002.safetensors")))["unsent"]
    assert kept.size == entries
    assert np.count_nonzero(kept) > 0.5 * entries
