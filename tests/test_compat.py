"""torchvision is here without torch's compiler, and gets the real one where it asks for it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from primia_flwr.compat import compiler_later

FRESH = """
import sys
import torch
import primia_flwr.data.transforms
import primia_flwr.models.registry

asked = "torch._dynamo", "torch._dynamo.utils"
print([name in sys.modules for name in asked], "_dynamo" in vars(torch))
from torchvision.transforms.v2.functional import resize
print(tuple(resize(torch.zeros(1, 4, 4), [2, 3], antialias=True).shape), asked[0] in sys.modules)
supported = sys.modules["torchvision.ops.roi_align"].is_compile_supported
print(supported("cpu"), supported("meta"), torch._dynamo.utils.is_compile_supported("cpu"))
from torchvision.tv_tensors import Mask, wrap
print(type(wrap(torch.zeros(1, 2, 2), like=Mask(torch.zeros(1, 2, 2)))).__name__)
"""


def test_the_compiler_is_imported_when_it_is_asked_and_not_before() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    said = ["[False, False] False", "(1, 2, 3) False", "True False True", "Mask"]
    assert done.stdout.splitlines() == said


def test_no_stand_in_is_left_behind_by_an_import_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = "torch._dynamo", "torch._dynamo.utils"
    for name in asked:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def fail() -> None:
        with compiler_later():
            assert all(name in sys.modules for name in asked)
            raise ImportError("meanwhile")

    with pytest.raises(ImportError, match="meanwhile"):
        fail()
    assert not any(name in sys.modules for name in asked)


def test_a_compiler_that_is_there_already_stays() -> None:
    before = importlib.import_module("torch._dynamo")
    with compiler_later():
        assert sys.modules["torch._dynamo"] is before
    assert sys.modules["torch._dynamo"] is before
