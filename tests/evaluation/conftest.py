from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "run_folder_maker", Path(__file__).with_name("run_folder_maker.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
_MAKER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MAKER)


@pytest.fixture(scope="session")
def make_run_folder() -> Callable[..., Path]:
    """Make an output folder as a run leaves it, with invented but consistent figures."""
    return _MAKER.make_run_folder  # type: ignore[no-any-return]
