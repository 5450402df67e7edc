"""Products modulo 2^64 where a device multiplies no 64-bit integers: exact ones of float64.

A word is x0 + x1 2^22 + x2 2^44 modulo 2^64, by limbs of 22, 22 and 20 bits that are centred:
|x0|, |x1| <= 2^21 and |x2| <= 2^19. A product of two limbs is at most 2^42 in magnitude, so 2^11
of them sum to at most 2^53. Up to there float64 holds every integer, and so each product and each
partial sum is exact, in whatever order they are added, fused or not. Longer sums are cut into
pieces. Pairs of limbs whose shift is 64 bits or more are left out: six of nine are computed.

Convolutions are matrix products of unfolded windows: a library may compute a convolution in
another way (Winograd, Fourier), and then nothing is exact. How many products there are depends on
shapes alone, so that their time tells nothing of the numbers.

Source: the blocks of float64 are those of CrypTen's CUDALongTensor (Knott et al. 2021; Tan et al.
2021, CryptGPU); here centred, so that three are enough for 2^11 terms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from primia_flwr.errors import ConfigError
from primia_flwr.inference.correlation_spec import Product, output_shape
from primia_flwr.inference.plan import Geometry

_SIZES = (22, 22, 20)
TERMS = 1 << 11
WORST = 2**63 - 2**43 - 2**21  # its limbs are -2^21, -2^21, -2^19: as large as they get
_SHIFTS = (0, 22, 44)
_ENTRIES = 1 << 26  # float64 numbers of unfolded windows at a time: 512 MiB


def split(values: Tensor) -> Tensor:
    """Return the limbs (3, ...), float64, of int64 words."""
    limbs = torch.empty((len(_SIZES), *values.shape), dtype=torch.float64, device=values.device)
    rest = values
    for number, bits in enumerate(_SIZES):
        half = 1 << (bits - 1)
        limb = ((rest + half) & ((1 << bits) - 1)) - half
        limbs[number] = limb
        rest = (rest - limb) >> bits  # where this wraps, only bits beyond the last limb change
    return limbs


def product(value: Tensor, weight: Tensor, geometry: Geometry | None) -> Tensor:
    """Return what `ring.product` returns, bit for bit; both operands on one device."""
    if geometry is None:
        cells, kernels = value[:, :, None, None], weight[:, :, None, None]
        return product(cells, kernels, Geometry()).flatten(1)
    shape = output_shape(tuple(value.shape), Product(0, tuple(weight.shape), (), geometry))
    total = torch.zeros(shape, dtype=torch.int64, device=weight.device)
    operands = value.tensor_split(geometry.groups, dim=1), weight.tensor_split(geometry.groups)
    sums = total.flatten(2).tensor_split(geometry.groups, dim=1)
    for group in zip(*operands, sums, strict=True):
        _add_convolution(*group, geometry)
    return total


def _add_convolution(value: Tensor, weight: Tensor, sums: Tensor, geometry: Geometry) -> None:
    """Add a convolution of one group to (N, out, cells), some channels at a time."""
    kernel = tuple(weight.shape[2:])
    window = kernel[0] * kernel[1]
    room = _ENTRIES // (len(_SIZES) * window * sums.shape[2])
    step = max(1, min(TERMS // window, room))
    for start in range(0, value.shape[1], step):
        factor = split(weight[:, start : start + step]).flatten(2)
        for image, target in zip(value[:, start : start + step], sums, strict=True):
            windows = F.unfold(
                split(image),
                kernel,
                dilation=geometry.dilation,
                padding=geometry.padding,
                stride=geometry.stride,
            )
            _add_product(factor, windows, target)


def _add_product(left: Tensor, right: Tensor, sums: Tensor) -> None:
    """Add left (3, out, K) times right (3, K, cells) to (out, cells), 2^11 terms at a time."""
    for start in range(0, left.shape[2], TERMS):
        rows = right[:, start : start + TERMS]
        for i, columns in enumerate(left[:, :, start : start + TERMS]):
            exact = torch.matmul(columns, rows[: len(_SIZES) - i]).to(torch.int64)
            for j, part in enumerate(exact):
                sums += part << (_SHIFTS[i] + _SHIFTS[j])


def require_exact(device: torch.device) -> None:
    """Try a device with the largest limbs and with random words.

    Raises
    ------
    ConfigError
        If its products are not those of integers, or it cannot compute them.
    """
    generator = torch.Generator().manual_seed(0)  # nothing secret is computed
    words = torch.randint(-(2**63), 2**63 - 1, (2, 64, TERMS + 1), generator=generator)
    words[:, :32] = WORST
    try:
        found = product(words[0].to(device), words[1].to(device), None).cpu()
    except RuntimeError as error:
        raise ConfigError(
            f"device={device} cannot be used ({' '.join(str(error).split())[:200]}); expected one "
            "that computes; set device=cpu"
        ) from None
    if not torch.equal(found, F.linear(*words)):
        raise ConfigError(
            f"device={device}: float64 products are not exact there; expected IEEE arithmetic, "
            "without emulation; set device=cpu"
        )
