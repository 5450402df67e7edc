"""What a recorded simulation keeps, and who may not record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from primia_flwr.config.experiment.debug import DebugConfig
from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import config_hash
from primia_flwr.errors import ConfigError
from primia_flwr.runs.received import (
    SUM,
    SURVIVORS,
    read_received,
    rounds_of,
    sites_of_round,
)
from primia_flwr.runs.recording import Recording

MODEL = {"w": np.array([[1.0, 2.0]], np.float32), "b": np.array([3.0], np.float32)}


def test_a_plain_update_is_what_came_less_what_was_sent(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.begin(2, MODEL)
    sent = {"w": np.array([[1.5, 1.0]], np.float32), "b": np.array([3.0], np.float32)}
    recording.site_model(2, "berlin", sent)
    assert rounds_of(tmp_path) == [2]
    assert sites_of_round(tmp_path, 2) == ["berlin"]
    base = read_received(tmp_path, 2, "model").arrays
    change = read_received(tmp_path, 2, "berlin").change(base)
    assert change["w"].tolist() == [[0.5, -1.0]]
    assert change["b"].tolist() == [0.0]


def test_a_masked_vector_is_cut_by_sorted_name_and_read_as_signed(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.begin(1, MODEL, sent=MODEL)
    words = np.array([2**32 - 1, 7, 2**31], np.uint32)  # b, then w
    recording.masked(1, "berlin", [words, np.zeros(4, np.uint64)])
    found = read_received(tmp_path, 1, "berlin")
    assert found.arrays["b"].dtype == torch.uint32
    change = found.change(read_received(tmp_path, 1, "model").arrays)
    assert change["b"].tolist() == [-1.0]
    assert change["w"].tolist() == [[7.0, -(2.0**31)]]


def test_what_is_not_trained_is_in_the_model_and_in_no_update(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.begin(1, MODEL, sent=["b"])
    recording.opened(1, np.array([0.25], np.float32), ["a", "b"])
    base = read_received(tmp_path, 1, "model").arrays
    assert sorted(base) == ["b", "w"]
    assert read_received(tmp_path, 1, SUM).change(base).keys() == {"b"}


def test_the_opened_sum_names_the_sites_in_it(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.begin(1, MODEL, sent=MODEL)
    recording.opened(1, np.array([0.25, 0.5, 0.75], np.float32), ["a", "b", "c"])
    found = read_received(tmp_path, 1, SUM)
    assert found.metadata[SURVIVORS] == "a,b,c"
    assert found.change(read_received(tmp_path, 1, "model").arrays)["b"].tolist() == [0.25]
    assert sites_of_round(tmp_path, 1) == []


def test_a_repeated_round_leaves_nothing_of_the_first_try(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.begin(1, MODEL)
    recording.site_model(1, "berlin", MODEL)
    recording.begin(1, MODEL)
    assert sites_of_round(tmp_path, 1) == []


def test_only_a_run_that_asks_is_recorded(tmp_path: Path) -> None:
    asked = Experiment(debug=DebugConfig(record_received=True))
    assert Recording.of(Experiment(), tmp_path) is None
    assert Recording.of(asked, None) is None
    assert isinstance(Recording.of(asked, tmp_path), Recording)


def test_a_deployment_is_never_recorded() -> None:
    deployment = DeploymentConfig(
        kind="deployment", superlink="fl:9391", root_certificates="ca.crt", roster="roster.yaml"
    )
    with pytest.raises(ConfigError, match=r"record_received=true in a deployment; expected false"):
        Experiment(debug=DebugConfig(record_received=True), deployment=deployment)


def test_recording_does_not_change_what_a_run_is() -> None:
    one = Experiment()
    assert config_hash(replace(one, debug=DebugConfig(record_received=True))) == config_hash(one)
