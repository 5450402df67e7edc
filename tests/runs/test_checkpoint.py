import errno
import json
import logging
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from primia_flwr.errors import CheckpointError
from primia_flwr.runs.checkpoint import (
    Checkpoint,
    adopt,
    load_latest,
    save_checkpoint,
)

MODEL = {"w": np.zeros((2, 3), dtype=np.float32), "scale": np.zeros((), dtype=np.float32)}


def make(number, config_hash="abc", **state):
    arrays = {
        "global": {name: array + number for name, array in MODEL.items()},
        "best": {name: array - number for name, array in MODEL.items()},
        "strategy": {},
    }
    return Checkpoint(config_hash, number, arrays, {"history": [number], **state})


def load(folder, config_hash="abc", model=MODEL):
    return load_latest(folder, config_hash=config_hash, model=model)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path):
    saved = make(3, best=0.1 + 0.2, worst=float("inf"), nothing=None)
    save_checkpoint(tmp_path / "new" / "folder", saved)
    found = load(tmp_path / "new" / "folder")
    assert (found.round, found.config_hash, found.state) == (3, "abc", saved.state)
    assert set(found.arrays) == {"global", "best", "strategy"}
    for group, arrays in saved.arrays.items():
        for name, array in arrays.items():
            assert found.arrays[group][name].tobytes() == array.tobytes()
            assert found.arrays[group][name].shape == array.shape


@given(
    arrays=st.dictionaries(
        st.text("abc./", min_size=1, max_size=6),
        hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)),
        max_size=4,
    ),
    state=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_arrays_and_any_json_come_back_bit_for_bit(arrays, state, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    save_checkpoint(tmp_path, Checkpoint("h", 1, {"global": arrays}, {"x": state}))
    found = load(tmp_path, "h", arrays)
    assert found.state == {"x": state}
    assert {n: a.tobytes() for n, a in found.arrays["global"].items()} == {
        n: a.tobytes() for n, a in arrays.items()
    }


def test_the_last_two_are_kept(tmp_path):
    for number in range(1, 5):
        save_checkpoint(tmp_path, make(number))
    assert names(tmp_path) == ["checkpoint-000003", "checkpoint-000004"]
    assert load(tmp_path).round == 4


def test_an_empty_or_missing_folder_holds_none(tmp_path):
    assert load(tmp_path) is None
    assert load(tmp_path / "missing") is None


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def edit(path):
    values = json.loads(path.read_text())
    values["content"]["round"] = 1
    path.write_text(json.dumps(values))


def of_format(folder, number):
    values = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**values, "format": number}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "arrays.safetensors", -1),
        lambda folder: (folder / "arrays.safetensors").write_bytes(b""),
        lambda folder: (folder / "arrays.safetensors").unlink(),
        lambda folder: flip(folder / "state.json", 0),
        lambda folder: edit(folder / "state.json"),
        lambda folder: (folder / "state.json").write_text("[]"),
        lambda folder: (folder / "state.json").write_text('{"format": 2}'),
        lambda folder: of_format(folder, 3),
        lambda folder: (folder / "state.json").unlink(),
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage, tmp_path, caplog):
    save_checkpoint(tmp_path, make(1))
    damage(save_checkpoint(tmp_path, make(2)))
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path).round == 1
    assert "checkpoint-000002 is damaged" in caplog.text
    assert "falling back" in caplog.text


def test_a_run_of_an_earlier_version_is_not_gone_on_with(tmp_path):
    save_checkpoint(tmp_path, make(1))
    of_format(save_checkpoint(tmp_path, make(2)), 1)
    with pytest.raises(CheckpointError, match="000002 was written by an earlier version"):
        load(tmp_path)


def test_after_a_fallback_the_next_one_is_the_newest(tmp_path):
    save_checkpoint(tmp_path, make(1))
    flip(save_checkpoint(tmp_path, make(2)) / "arrays.safetensors", -1)
    save_checkpoint(tmp_path, make(2, again=True))
    assert load(tmp_path).state["again"] is True


def test_nothing_intact_is_one_clear_error(tmp_path):
    for number in (1, 2):
        flip(save_checkpoint(tmp_path, make(number)) / "arrays.safetensors", -1)
    with pytest.raises(CheckpointError, match=r"no intact checkpoint .*000002.*000001.*SHA-256"):
        load(tmp_path)


def test_a_checkpoint_is_adopted_by_a_longer_run(tmp_path):
    save_checkpoint(tmp_path, make(1))
    save_checkpoint(tmp_path, make(2, stopped="all rounds"))
    for _ in range(2):  # asked again after a crash
        adopt(tmp_path, before="abc", after="longer", stopped="")
    found = load(tmp_path, config_hash="longer")
    assert (found.round, found.state["stopped"], found.state["history"]) == (2, "", [2])
    assert len(names(tmp_path)) == 2
    with pytest.raises(CheckpointError, match="another experiment"):
        adopt(tmp_path, before="abc", after="third")


def test_where_no_checkpoint_is_none_is_adopted(tmp_path):
    adopt(tmp_path, before="abc", after="longer")
    assert load(tmp_path) is None


def test_another_experiment_is_refused_without_a_fallback(tmp_path):
    save_checkpoint(tmp_path, make(1))
    save_checkpoint(tmp_path, make(2, config_hash="other"))
    with pytest.raises(
        CheckpointError, match=r"another experiment .config hash other.; expected abc"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({**MODEL, "x": MODEL["w"]}, r"'x' is absent; expected float32 \(2, 3\)"),
        ({"w": MODEL["w"]}, r"'scale' is float32 \(\); expected absent"),
        ({**MODEL, "w": MODEL["w"].T}, r"'w' is float32 \(2, 3\); expected float32 \(3, 2\)"),
        ({**MODEL, "w": MODEL["w"].astype("f8")}, r"'w' is float32 \(2, 3\); expected float64"),
    ],
)
def test_another_model_is_refused(model, message, tmp_path):
    save_checkpoint(tmp_path, make(1))
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, model=model)


@pytest.mark.parametrize("step", ["mkdir", "replace", "fsync"])
def test_a_full_disk_leaves_the_previous_one_intact(step, tmp_path, monkeypatch):
    save_checkpoint(tmp_path, make(1))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path if step == "mkdir" else os, step, full)
        with pytest.raises(CheckpointError, match=r"round 2 .*No space left on device.*make room"):
            save_checkpoint(tmp_path, make(2))
    assert names(tmp_path) == ["checkpoint-000001"]
    assert load(tmp_path).round == 1
    save_checkpoint(tmp_path, make(2))
    assert load(tmp_path).round == 2


def test_a_really_full_disk(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(tmp_path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        save_checkpoint(tmp_path, make(1))
        (tmp_path / "filler").write_bytes(bytes(200 * 1024))
        large = {"global": {"w": np.zeros(50_000, dtype=np.float32)}}
        with pytest.raises(CheckpointError, match="No space left on device"):
            save_checkpoint(tmp_path, Checkpoint("abc", 2, large, {}))
        assert names(tmp_path) == ["checkpoint-000001", "filler"]
        assert load(tmp_path).round == 1
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_remains_of_a_killed_process_are_ignored_and_removed(tmp_path):
    save_checkpoint(tmp_path, make(1))
    remains = tmp_path / ".checkpoint-000002.0a1b2c"
    remains.mkdir()
    (remains / "arrays.safetensors").write_bytes(b"half")
    assert load(tmp_path).round == 1
    save_checkpoint(tmp_path, make(2))
    assert not remains.exists()
    assert load(tmp_path).round == 2


def test_files_and_folders_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    steps = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(handle):
        steps.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real_sync(handle)

    def replace(source, target):
        steps.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    save_checkpoint(tmp_path / "c", make(1))
    assert steps[:2] + steps[3:] == ["arrays.safetensors", "state.json", "rename", "c"]
    assert steps[2].startswith(".checkpoint-000001.")
