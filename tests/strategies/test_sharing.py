"""A part of an update a round: whole runs in one process, plain and with secure aggregation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load_file

from primia_flwr.messages.keys import ARRAYS
from primia_flwr.messages.packing import unpack
from primia_flwr.messages.secure import MASKED, UPDATE
from tests.walks.federation import Site, train_securely

ROUNDS = ("federation.rounds=2", "strategy.weight_digits=2", "federation.min_sites=3")


@pytest.fixture(autouse=True)
def _in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


def _run(folder: Path, *words: str) -> tuple[str, list[Site]]:
    """Train two rounds; return the model's SHA-256 and the sites."""
    sites = train_securely(folder, *ROUNDS, *words)
    return hashlib.sha256((folder / "run/model.safetensors").read_bytes()).hexdigest(), sites


@pytest.mark.parametrize("by", ["random", "change"])
def test_masks_leave_no_trace_in_a_model_of_which_parts_travel(tmp_path: Path, by: str) -> None:
    share = ("aggregation.share=0.1", f"aggregation.share_by={by}")
    secure, sites = _run(tmp_path / "secure", *share)
    plain, _ = _run(tmp_path / "plain", "aggregation=plain", *share)
    assert secure == plain
    whole = load_file(tmp_path / "plain/run/model.safetensors")
    entries = sum(array.size for array in whole.values() if array.dtype == np.float32)
    sent = [reply.array_records[MASKED][UPDATE].data for site in sites for reply in site.sent]
    assert {len(data) for data in sent} == {4 * round(0.1 * entries)}
    assert len(sent) == 6, "three sites, two rounds"


def test_each_site_sends_its_own_largest_numbers_in_a_plain_run(tmp_path: Path) -> None:
    words = ("aggregation=plain", "aggregation.share=0.1", "aggregation.share_by=own")
    _, sites = _run(tmp_path, *words)
    replies = [unpack(site.sent[0].array_records[ARRAYS]) for site in sites]
    bits = [reply["bits"].numpy() for reply in replies]
    assert len({found.tobytes() for found in bits}) == 3, "each its own"
    kept = load_file(
        tmp_path / "run/sites/site-1" / f"{_state(tmp_path)}/unsent-000001.safetensors"
    )
    sent = replies[0]["vector"].numpy()
    left, places = kept["unsent"], np.flatnonzero(np.unpackbits(bits[0]))
    assert (len(sent), len(places)) == (round(0.1 * left.size),) * 2
    assert (left[places] == 0).all()
    assert np.abs(left).max() <= np.abs(sent).min(), "none is larger than what was sent"
    assert np.count_nonzero(left) > 0.5 * left.size


def _state(folder: Path) -> str:
    (found,) = {path.parent.name for path in folder.rglob("unsent-*.safetensors")}
    return found
