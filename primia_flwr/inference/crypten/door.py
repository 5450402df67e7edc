"""CrypTen behind one door: the only module that imports it, and how it imports today.

CrypTen 0.4.1 asks for modules by names that PyTorch has moved since; they are put under their old
names first. Its ONNX import, which is what wants them, does not work even so, and is not used.
Nor is `crypten.models`, which on import puts CrypTen's layers into torchvision's own models.

The import takes 0.3 s beside PyTorch. CrypTen keeps its state (communicator, generators, provider)
in its modules, so a process is one party of one computation at a time.

Source: Knott et al. 2021, CrypTen: Secure Multi-Party Computation Meets Machine Learning.
"""

import importlib
import sys

# what CrypTen asks for: where PyTorch has it now
_MOVED = {
    "torch.onnx._internal.registration": "torch.onnx._internal.torchscript_exporter.registration"
}


def _restore_moved_modules() -> None:
    for old, new in _MOVED.items():
        try:
            importlib.import_module(old)
        except ModuleNotFoundError:
            sys.modules[old] = importlib.import_module(new)


_restore_moved_modules()

import crypten  # noqa: E402
import crypten.communicator  # noqa: E402
from crypten.common import rng  # noqa: E402
from crypten.communicator import Communicator  # noqa: E402
from crypten.mpc import MPCTensor  # noqa: E402
from crypten.mpc.primitives import (  # noqa: E402
    ArithmeticSharedTensor,
    BinarySharedTensor,
    arithmetic,
    binary,
)
from crypten.mpc.provider import tfp_provider, ttp_provider  # noqa: E402
from crypten.mpc.provider.provider import TupleProvider  # noqa: E402

# Every module that draws masks by a function that it imported by name.
DRAWING_MODULES = (rng, arithmetic, binary, tfp_provider, ttp_provider)

__all__ = [
    "DRAWING_MODULES",
    "ArithmeticSharedTensor",
    "BinarySharedTensor",
    "Communicator",
    "MPCTensor",
    "TupleProvider",
    "crypten",
]
