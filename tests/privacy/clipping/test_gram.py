import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from primia_flwr.privacy.clipping.geometry import Geometry
from primia_flwr.privacy.clipping.gram import patch_gram, position_gram, squared_norms

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def test_by_hand() -> None:
    # One channel, a row of pixels 1, 2, 3 and a kernel of two: patches (1, 2) and (2, 3).
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    geometry = Geometry(kernel=(1, 2))
    gram = patch_gram(x, geometry, (1, 2), views=1)
    assert gram.tolist() == [[[5.0, 8.0], [8.0, 13.0]]]
    # dy = (1, -1): the gradient is (1, 2) - (2, 3) = (-1, -1), squared norm 2.
    dy = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    assert position_gram(dy, views=1).tolist() == [[[1.0, -1.0], [-1.0, 1.0]]]
    assert squared_norms(x, dy, geometry, views=1).tolist() == [2.0]


@settings(max_examples=60)
@given(
    kernel=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    views=st.integers(1, 3),
)
def test_gram_of_patches_is_that_of_unfolded_patches(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
    views: int,
) -> None:
    x = torch.randint(-3, 4, (2 * views, 2, *size)).double()
    weight = torch.zeros(1, 2, *kernel).double()
    y = functional.conv2d(x, weight, None, stride, padding, dilation)
    patches = functional.unfold(x, kernel, dilation, padding, stride)  # (N, D, T)
    rows = patches.transpose(1, 2).reshape(2, -1, patches.shape[1])
    geometry = Geometry(kernel, stride, padding, dilation)
    gram = patch_gram(x, geometry, (y.shape[2], y.shape[3]), views)
    assert torch.equal(gram, rows @ rows.transpose(1, 2))


def test_many_units_are_worked_on_in_parts() -> None:
    x, dy = torch.randn(50, 2, 16, 16).double(), torch.randn(50, 3, 16, 16).double()
    geometry = Geometry((3, 3), padding=(1, 1))
    weight = torch.zeros(3, 2, 3, 3).double()
    norms = squared_norms(x, dy, geometry, views=2)
    for unit in range(25):
        part = slice(2 * unit, 2 * unit + 2)
        gradient = geometry.weight_gradient(x[part], dy[part], weight)
        torch.testing.assert_close(norms[unit], gradient.square().sum())
