"""Simulated sites on a machine that says it has GPUs: each site's process is shown one."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from primia_flwr.flower import shares
from tests.e2e.runner import TINY, InProcess, last_json


def test_each_simulated_site_is_shown_a_gpu_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "gpu_memory", lambda: [80 << 30, 80 << 30])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    primia = InProcess(tmp_path)
    done = primia("train", *TINY, "federation.rounds=1", "training.device=auto")
    assert done.returncode == 0, done.stderr
    run_dir = tmp_path / last_json(done.stdout)["run"]
    said = [json.loads(file.read_text()) for file in run_dir.glob("sites/*/device.json")]
    assert len(said) == 3
    assert {one["visible_gpus"] for one in said} <= {"0", "1"}  # Ray hides all by an empty text
    # no GPU is really here, so the CPU is what each site trained on, and what is written down
    devices = json.loads((run_dir / "run.json").read_text())["devices"]
    assert set(devices) == {"site-1", "site-2", "site-3"}
    assert set(devices.values()) == {f"cpu ({platform.processor() or platform.machine()})"}


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for words in (["training.device=cuda"], ["federation.gpus_per_site=0.5"]):
        for dry in ("true", "false"):
            done = InProcess(tmp_path)("train", *TINY, *words, f"dry_run={dry}")
            assert done.returncode == 2
            assert words[0].partition("=")[0] in done.stderr
    assert not list(tmp_path.iterdir())
