"""The two nets: sizes, and that the discriminator can be clipped."""

import pytest
import torch
from torch import nn

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.clipping.admission import check_independence, check_model
from primia_flwr.synthesis.networks import SIZES, Generator, build_discriminator


@pytest.mark.parametrize("size", SIZES)
def test_images_have_their_size_and_verdicts_one_number_a_class(size: int) -> None:
    made = Generator(classes=3, size=size, latent=4, width=8)(
        torch.randn(2, 4), torch.tensor([0, 2])
    )
    assert made.shape == (2, 1, size, size)
    assert float(made.detach().abs().max()) <= 1
    judge = build_discriminator(classes=3, size=size, width=8)
    assert judge(made).shape == (2, 3)
    check_model(judge)
    check_independence(judge, made)


def test_a_batch_norm_in_it_would_be_refused() -> None:
    judge = build_discriminator(classes=2, size=16, width=8)
    with pytest.raises(ConfigError, match="normalises each image by the others"):
        check_model(nn.Sequential(nn.BatchNorm2d(1), judge))


def test_the_label_decides_what_is_drawn() -> None:
    net, noise = Generator(classes=2, size=16, latent=4, width=8), torch.randn(1, 4)
    zero, one = (net(noise, torch.tensor([label])) for label in (0, 1))
    assert not torch.equal(zero, one)
