"""Windows of poolings along one axis: which cells, and the tree of maxima over them."""

from collections.abc import Sequence
from dataclasses import dataclass

Window = tuple[int, int]


@dataclass(frozen=True)
class Level:
    """One level of the tree: see `plan.MaxLevel`."""

    first: tuple[int, ...]
    second: tuple[int, ...]


def strided(size: int, kernel: int, stride: int, padding: int) -> list[Window]:
    """Return (start, end) of each window of a pooling; cells of the padding are left out.

    The last window begins inside the padded input (floor mode).
    """
    count = (size + 2 * padding - kernel) // stride + 1
    starts = [i * stride - padding for i in range(count)]
    return [(max(start, 0), min(start + kernel, size)) for start in starts]


def adaptive(size: int, count: int) -> list[Window]:
    """Return the windows of an adaptive pooling to `count` cells, as PyTorch has them."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def max_tree(size: int, windows: Sequence[Window]) -> list[Level]:
    """Return levels that lead from the `size` cells of an axis to one maximum for each window.

    Each level halves, rounded up, what is left of a window; ceil(log2(k)) levels for windows of
    k cells, none where every cell is its own maximum. Windows that compare the same two cells do
    so once.
    """
    left: list[list[int]] = [list(range(start, end)) for start, end in windows]
    levels = []
    while any(len(cells) > 1 for cells in left):
        places: dict[Window, int] = {}
        for number, cells in enumerate(left):
            pairs = [(cells[i], cells[i + 1]) for i in range(0, len(cells) - 1, 2)]
            if len(cells) % 2:
                pairs.append((cells[-1], -1))
            left[number] = [places.setdefault(pair, len(places)) for pair in pairs]
        levels.append(Level(tuple(a for a, _ in places), tuple(b for _, b in places)))
    order = tuple(cells[0] for cells in left)
    last = levels.pop() if levels else Level(order, (-1,) * len(order))
    if not levels and not any(b >= 0 for b in last.second):
        return [] if order == tuple(range(size)) else [last]
    return [*levels, Level(_picked(last.first, order), _picked(last.second, order))]


def _picked(cells: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(cells[i] for i in order)
