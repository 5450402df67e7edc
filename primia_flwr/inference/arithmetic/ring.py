"""Fixed point in the ring of integers modulo 2^64, on PyTorch's int64 tensors, which wrap.

A real x stands as round(x 2^f). A product has the fractional bits of both factors; each party
cuts the surplus off its own share (Mohassel & Zhang 2017, SecureML, section 4.1): the result is
off by at most one unit, but for a chance of |product| / 2^64 (their bound: / 2^63) that it is off
by 2^(64 - b), b the bits that are cut off.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.arithmetic import limbs
from primia_flwr.inference.plan import Average, Geometry

ACTIVATION_BITS = 13
WEIGHT_BITS = 16
DATA_OWNER, MODEL_OWNER = 0, 1
CPU = torch.device("cpu")


def encode(values: Tensor, bits: int) -> Tensor:
    """Return round(values 2^bits), int64, of finite reals below 2^(62 - bits) in magnitude.

    Raises
    ------
    ProtocolError
        If one is not.
    """
    scaled = torch.round(values.double() * 2.0**bits)
    if not bool((scaled.abs() < 2.0**62).all()):
        worst = float(values.double().abs().max())
        raise ProtocolError(
            f"a value of magnitude {worst:g} in {bits} fractional bits; expected finite numbers "
            f"below 2^{62 - bits}"
        )
    return scaled.to(torch.int64)


def decode(values: Tensor, bits: int) -> Tensor:
    """Return values / 2^bits, float64."""
    return values.double() * 2.0**-bits


def truncate(share: Tensor, bits: int, party: int) -> Tensor:
    """Divide a shared value by 2^bits: the data owner rounds its share down, the other one up."""
    lower = share >> bits
    return lower if party == DATA_OWNER else lower + (share & ((1 << bits) - 1) != 0)


def divide(share: Tensor, by: Tensor, party: int) -> Tensor:
    """Divide a shared value by positive integers, within one unit; see `truncate`."""
    lower = torch.div(share, by, rounding_mode="floor")
    return lower if party == DATA_OWNER else lower + (torch.remainder(share, by) != 0)


def product(value: Tensor, weight: Tensor, geometry: Geometry | None) -> Tensor:
    """Return a convolution, or value (N, in) times weight (out, in) transposed, modulo 2^64.

    It is computed where the weight lies, see `place`, and lies where the value does; the result
    is the same everywhere.

    Raises
    ------
    ServiceError
        If a GPU has no room for it.
    """
    if weight.device.type != "cpu":
        with _room(weight.device):
            return limbs.product(value.to(weight.device), weight, geometry).to(value.device)
    if geometry is None:
        return F.linear(value, weight)
    moves = (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    return F.conv2d(value, weight, None, *moves)


def place(weight: Tensor, device: torch.device) -> Tensor:
    """Return a weight where its products will be computed.

    Raises
    ------
    ServiceError
        If a GPU has no room for it.
    """
    with _room(device):
        return weight.to(device)


@contextmanager
def _room(device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise ServiceError(
            f"the memory of {device} is full; expected room for the weights and for one layer; set "
            "device=cpu, a smaller batch, or serve fewer at a time"
        ) from None


def window_sums(values: Tensor, step: Average) -> tuple[Tensor, Tensor]:
    """Return the sums over windows of (N, C, H, W), and the cells in each, (rows, columns)."""
    rows = torch.stack([values[:, :, a:b].sum(dim=2) for a, b in step.rows], dim=2)
    sums = torch.stack([rows[:, :, :, a:b].sum(dim=3) for a, b in step.columns], dim=3)
    heights = torch.tensor([b - a for a, b in step.rows], device=values.device)
    widths = torch.tensor([b - a for a, b in step.columns], device=values.device)
    return sums, heights[:, None] * widths[None, :]


def enlarge(share: Tensor, factor: int) -> Tensor:
    """Return (N, C, H, W) with each cell repeated along both axes."""
    return share.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def average(share: Tensor, step: Average, party: int) -> Tensor:
    """Return a share of the means over windows of (N, C, H, W)."""
    return divide(*window_sums(share, step), party)
