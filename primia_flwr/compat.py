"""The one place that knows how to import torchvision beside a CPU-only torch.

torchvision wheels are built against CUDA builds of torch. Beside a CPU-only torch their
compiled library cannot load, and `import torchvision` fails on operators whose schemas it
would have declared. Declaring the missing schemas first makes models and transforms work;
nothing in primia_flwr calls those operators.
"""

import torch

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _declare_missing_operators() -> None:
    if torch.version.cuda is not None:
        return  # torch and torchvision are built alike: the compiled library declares them
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name.split("::")[1]):
            torch.library.define(name, schema)


_declare_missing_operators()

import torchvision  # noqa: E402

__all__ = ["torchvision"]
