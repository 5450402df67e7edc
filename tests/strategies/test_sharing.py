"""A part of an update a round: whole runs in one process, plain and with secure aggregation."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load_file

from primia_flwr.messages.keys import ARRAYS
from primia_flwr.messages.packing import unpack
from primia_flwr.messages.secure import MASKED, UPDATE
from strategies.aggregators.secure.aggregator import SecureAggregator
from tests.walks.federation import Federation, Site, train_securely

ROUNDS = ("federation.rounds=2", "strategy.weight_digits=2", "federation.min_sites=3")


def _identity(patch: pytest.MonkeyPatch) -> None:
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        patch.setattr(TaskIdentity, name, value)


@pytest.fixture(autouse=True)
def _in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _identity(monkeypatch)


def _run(folder: Path, *words: str) -> tuple[str, list[Site]]:
    """Train two rounds; return the model's SHA-256 and the sites."""
    sites = train_securely(folder, *ROUNDS, *words)
    return _model(folder), sites


def _model(folder: Path) -> str:
    return hashlib.sha256((folder / "run/model.safetensors").read_bytes()).hexdigest()


LONG = ("federation.rounds=3", "aggregation.share=0.1", "aggregation.share_by=change")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Site]]:
    with pytest.MonkeyPatch.context() as patch:
        _identity(patch)
        return _run(tmp_path_factory.mktemp("whole"), *LONG)


def test_masks_leave_no_trace_in_a_model_of_which_parts_travel(
    tmp_path: Path, undisturbed: tuple[str, list[Site]]
) -> None:
    secure, sites = undisturbed
    plain, _ = _run(tmp_path, "aggregation=plain", *LONG)
    assert secure == plain
    whole = load_file(tmp_path / "run/model.safetensors")
    entries = sum(array.size for array in whole.values() if array.dtype == np.float32)
    sent = [reply.array_records[MASKED][UPDATE].data for site in sites for reply in site.sent]
    assert {len(data) for data in sent} == {4 * round(0.1 * entries)}
    assert len(sent) == 9, "three sites, three rounds"


def test_each_site_sends_its_own_largest_numbers_in_a_plain_run(tmp_path: Path) -> None:
    part = ("aggregation.share=0.1", "aggregation.share_by=own", "federation.rounds=1")
    words = ("aggregation=plain", *part)
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


def test_a_round_that_is_repeated_loses_nothing_and_doubles_nothing(
    tmp_path: Path, undisturbed: tuple[str, list[Site]]
) -> None:
    """A site's answer to round 2 is lost: all of them are asked again."""
    federation = Federation(tmp_path, *ROUNDS, *LONG, "federation.round_timeout=1", lost=[2])
    federation.run()
    assert [len(site.sent) for site in federation.sites] == [4, 4, 4]
    assert _model(tmp_path) == undisturbed[0]


def test_a_coordinator_that_dies_goes_on_as_if_it_had_not(
    tmp_path: Path, undisturbed: tuple[str, list[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path, *ROUNDS, *LONG)
    done, take = [], SecureAggregator.train

    def train(self: Any, *arguments: Any) -> Any:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return take(self, *arguments)

    monkeypatch.setattr(SecureAggregator, "train", train)
    with pytest.raises(KeyboardInterrupt):
        federation.run()
    federation.run(resume=True)
    assert _model(tmp_path) == undisturbed[0]
