from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runner import Primia, processes_of


@pytest.fixture
def primia(tmp_path: Path) -> Iterator[Primia]:
    yield Primia(tmp_path)
    left = processes_of(tmp_path)
    for process in left:
        process.kill()
    assert not left, f"left running: {left}"
