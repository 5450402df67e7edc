"""A sweep leaves everybody's loggers as they are."""

import logging
from pathlib import Path

import pytest

from primia_flwr.cli.train.multirun import enter_hydra


def test_a_logger_from_before_a_sweep_still_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logger, jobs = logging.getLogger("primia_flwr.somebody"), list[int]()
    before = logging.getLogger().level
    enter_hydra(["seed=1,2"], lambda cfg: jobs.append(cfg.seed))
    assert jobs == [1, 2]
    assert not logger.disabled
    assert logging.getLogger().level == before
