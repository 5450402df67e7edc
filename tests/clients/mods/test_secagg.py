"""The steps of the protocol that need no data are cheap: a SuperNode starts a process for each."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from clients.mods.secagg_vectors import _private_vectors
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, without_sweep
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import secure as secure_records
from primia_flwr.messages.keys import CONFIG

_STEP = """
import sys
from clients.client_app import app
from clients.mods.secagg import answer_protocol
from primia_flwr.secagg.protocol.vault import Vault
heavy = {"torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib"} & set(sys.modules)
print(sorted(heavy))
"""


def test_a_step_without_data_imports_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", _STEP], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_configuration_that_has_no_one_text_is_refused() -> None:
    content = RecordDict({CONFIG: ConfigRecord({"key": b"bytes"})})
    layout = secure_records.statistics_layout(Experiment(), 2)
    with pytest.raises(ProtocolError, match=r"config .*bytes"):
        secure_records.transcript_hash(b"", content, layout, "train", terms=b"")


def test_a_difference_is_that_of_the_flat_vectors() -> None:
    rng = np.random.default_rng(0)
    after = {"b": rng.random((2, 3), np.float32), "a": rng.random((), np.float32)}
    after = {name: np.asarray(array, np.float32) for name, array in after.items()}
    before = {name: np.full_like(array, 0.5) for name, array in after.items()}
    expected = np.concatenate([(after[name] - before[name]).ravel() for name in "ab"])
    assert (secure_records.difference(after, before) == expected).all()
    with pytest.raises(ProtocolError, match="other arrays"):
        secure_records.difference(after, {"a": before["a"]})
    with pytest.raises(ProtocolError, match="'a' is float64; expected float32"):
        secure_records.difference(after, {**before, "a": before["a"].astype(np.float64)})


def test_a_private_update_that_is_not_finite_is_noise_alone() -> None:
    """Whether a training diverged depends on its images: an error would tell it without noise."""
    asked = ["privacy=dp_aggregate", "privacy.epsilon=0", "privacy.noise_multiplier=1"]
    experiment = parse(Experiment, without_sweep(compose("config", ["aggregation=secure", *asked])))
    before = {"w": np.zeros(1000, np.float32)}
    after = {"w": Array(np.full(1000, np.nan, np.float32))}
    plain = Message(RecordDict({"arrays": ArrayRecord(after)}), 1, "train")
    site = SimpleNamespace(experiment=experiment, simulated=True, folder=None)
    layout = secure_records.report_layout(experiment, 1000, 2)
    words, numbers = _private_vectors(site, layout, before, plain)  # type: ignore[arg-type]
    assert numbers.tolist() == [1], "the weight is constant"
    assert len(set(words.tolist())) > 100, "noise"
