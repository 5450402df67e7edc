"""A machine without a GPU (with one: tests/e2e/test_simulation.py, test_concurrency.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.e2e.runner import TINY, InProcess


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for words in (["training.device=cuda"], ["federation.gpus_per_site=0.5"]):
        for dry in ("true", "false"):
            done = InProcess(tmp_path)("train", *TINY, *words, f"dry_run={dry}")
            assert done.returncode == 2
            assert words[0].partition("=")[0] in done.stderr
    assert not list(tmp_path.iterdir())
