"""Norms of a convolution's gradients without the gradients: Gram matrices over positions.

For one unit the kernel's gradient is the sum over positions t (of all its views) of the outer
product of dy_t (O numbers) and the patch x_t (C h w numbers) under the kernel there. Its squared
norm is the sum over pairs of positions of <dy_t, dy_s> <x_t, x_s>: two matrices T x T.

Patches overlap, so their products repeat. <x_t, x_s> is the sum over the kernel's cells k of
products of pixels <p_(t+k), p_(s+k)>: it is enough to multiply pixels with pixels once, and to add
that matrix up shifted along its diagonals. That spares the factor h w of the multiplications and
the patches' copy. With a stride, a cell meets only pixels of its own phase: one pixel matrix for
each phase.

Source: Goodfellow 2015, Efficient Per-Example Gradient Computations; Li et al. 2021, Large Language
Models Can Be Strong Differentially Private Learners (ghost norm); Bu et al. 2022, Scalable and
Efficient Training of Large Convolutional Neural Networks with Differential Privacy.
"""

import itertools

import torch
from torch import Tensor

from primia_flwr.privacy.clipping.geometry import Geometry

_CACHED = 1 << 18  # entries of a Gram matrix (1 MiB) that are worked on at a time


def patch_gram(x: Tensor, geometry: Geometry, out_size: tuple[int, int], views: int) -> Tensor:
    """Return the products of all pairs of patches of each unit.

    Parameters
    ----------
    x : Tensor
        (units * views, C, H, W), the input of a convolution with one group.
    geometry : Geometry
        Of the convolution.
    out_size : tuple of int
        Height and width of its output.
    views : int
        Images of a unit.

    Returns
    -------
    Tensor
        (units, T, T), T = views * height * width, positions in the order view, row, column.
    """
    height, width = out_size
    shape = (x.shape[0] // views, views, height, width, views, height, width)
    gram = x.new_zeros(shape)
    pixels = x.permute(0, 2, 3, 1)
    phases: dict[tuple[int, int], Tensor] = {}
    for rows, columns in itertools.product(*(_cells(geometry, axis) for axis in (0, 1))):
        phase = (rows[0], columns[0])
        if phase not in phases:
            strided = pixels[:, phase[0] :: geometry.stride[0], phase[1] :: geometry.stride[1]]
            phases[phase] = _pixel_gram(strided, views)
        _add_shifted(gram, phases[phase], rows[1], columns[1])
    return gram.view(shape[0], views * height * width, -1)


def position_gram(dy: Tensor, views: int) -> Tensor:
    """Return the products of all pairs of positions: (units * views, O, H, W) -> (units, T, T)."""
    rows = dy.permute(0, 2, 3, 1).reshape(dy.shape[0] // views, -1, dy.shape[1])
    return torch.bmm(rows, rows.transpose(1, 2))


def squared_norms(x: Tensor, dy: Tensor, geometry: Geometry, views: int) -> Tensor:
    """Return each unit's squared norm of the kernel's gradient, (units,), as it is rounded.

    `x`, `dy`: input (units * views, C, H, W) and gradient of the output (units * views, O, H', W').
    `geometry`: of a convolution with one group. `views`: images of a unit.
    """
    height, width = int(dy.shape[2]), int(dy.shape[3])
    units = dy.shape[0] // views
    at_once = max(1, _CACHED // (views * height * width) ** 2)
    norms = []
    for first in range(0, units, at_once):
        part = slice(first * views, (first + at_once) * views)
        products = patch_gram(x[part], geometry, (height, width), views)
        products *= position_gram(dy[part], views)
        norms.append(products.sum(dim=(1, 2)))
    return torch.cat(norms)


def multiplications(
    geometry: Geometry, in_channels: int, out_channels: int, positions: int, views: int
) -> int:
    """Count the multiplications and, weighted, the additions of one unit's `squared_norms`."""
    phases = [len({phase for phase, _ in _cells(geometry, axis)}) for axis in (0, 1)]
    cells = geometry.kernel[0] * geometry.kernel[1]
    width = phases[0] * phases[1] * in_channels + out_channels
    return (positions * views) ** 2 * (width + _ADDITION * cells)


_ADDITION = 20  # multiplications of a matrix product that take as long as one shifted addition


def _cells(geometry: Geometry, axis: int) -> list[tuple[int, int]]:
    """List (phase, shift) of the kernel's cells: cell k meets pixel stride (t + shift) + phase."""
    stride, padding = geometry.stride[axis], geometry.padding[axis]
    cells = []
    for k in range(geometry.kernel[axis]):
        shift, phase = divmod(geometry.dilation[axis] * k - padding, stride)
        cells.append((phase, shift))
    return cells


def _pixel_gram(pixels: Tensor, views: int) -> Tensor:
    """(units * views, H, W, C) -> (units, views, H, W, views, H, W)."""
    images, height, width, channels = pixels.shape
    units = images // views
    rows = pixels.reshape(units, views * height * width, channels)
    gram = torch.bmm(rows, rows.transpose(1, 2))
    return gram.view(units, views, height, width, views, height, width)


def _add_shifted(gram: Tensor, pixels: Tensor, down: int, right: int) -> None:
    """Add the products of the pixels that one cell of the kernel meets; outside are zeros."""
    to_rows, from_rows = _overlap(gram.shape[2], pixels.shape[2], down)
    to_columns, from_columns = _overlap(gram.shape[3], pixels.shape[3], right)
    target = gram[:, :, to_rows, to_columns, :, to_rows, to_columns]
    target += pixels[:, :, from_rows, from_columns, :, from_rows, from_columns]


def _overlap(outputs: int, inputs: int, shift: int) -> tuple[slice, slice]:
    """Return which outputs t meet an input t + shift, and which inputs these are."""
    first = max(0, -shift)
    last = max(first, min(outputs, inputs - shift))
    return slice(first, last), slice(first + shift, last + shift)
