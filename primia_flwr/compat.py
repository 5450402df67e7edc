"""The one place that knows how to import torchvision beside a CPU-only torch, and quickly.

torchvision wheels are built against CUDA builds of torch. Beside a CPU-only torch their
compiled library cannot load, and `import torchvision` fails on operators whose schemas it
would have declared. Declaring the missing schemas first makes models and transforms work;
nothing in primia_flwr calls those operators.

Two of its files ask for torch's compiler as they are imported, which takes as long as torch itself.
They get what asks the compiler when it is called.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch._compile import _disable_dynamo

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_COMPILER, _ASKED = "torch._dynamo", "torch._dynamo.utils"


def _declare_missing_operators() -> None:
    if torch.version.cuda is not None:
        return  # torch and torchvision are built alike: the compiled library declares them
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name.split("::")[1]):
            torch.library.define(name, schema)


def _is_compile_supported(device: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device))


def _disable(function: Callable[..., Any], recursive: bool = True, **_: Any) -> Callable[..., Any]:
    return _disable_dynamo(function, recursive)


@contextmanager
def compiler_later() -> Iterator[None]:
    """Give torchvision's files that are imported meanwhile a stand-in for torch's compiler."""
    if _COMPILER in sys.modules:
        yield
        return
    compiler, asked = ModuleType(_COMPILER), ModuleType(_ASKED)
    vars(compiler).update(disable=_disable, utils=asked)
    vars(asked).update(is_compile_supported=_is_compile_supported)
    sys.modules.update({_COMPILER: compiler, _ASKED: asked})
    try:
        yield
    finally:
        del sys.modules[_COMPILER], sys.modules[_ASKED]


_declare_missing_operators()

with compiler_later():
    import torchvision

__all__ = ["compiler_later", "torchvision"]
