"""Networks without normalisation: constants in place of what a norm layer would measure.

A norm layer keeps the variance of what passes through a network near 1 by dividing by it. Here it
is kept near 1 at the first weights by constants that follow from the architecture, and then
nothing is measured: no image meets another (differential privacy), and there is no square root and
no division (encrypted inference). Three rules:

- kernels are standardised and multiplied by 1 / sqrt(inputs of an output), so that a convolution
  of independent inputs of variance 1 gives variance 1; and as they have mean 0, a mean that all
  inputs share does not matter;
- a ReLU leaves less variance than it gets, and a max-pool after it another; the next kernel is
  multiplied by the reciprocal of the deviation that is left, `GAINS`;
- a residual block adds alpha times its branch to its input x, and reads x over its deviation beta:
  Var(x + alpha f(x / beta)) = beta^2 + alpha^2. The first block of a stage takes a convolution for
  its shortcut, which sets beta back to 1.

As ReLU(x / beta) = ReLU(x) / beta, all of these constants are factors of kernels: what is left is
convolutions, additions, ReLUs and pooling, each with a scale and a shift that are learnt
(`scale_shift`).

Source: Brock, De, Smith 2021, Characterizing Signal Propagation to Close the Performance Gap in
Unnormalized ResNets (scaled weight standardisation; alpha is theirs).
"""

import math

from torch import nn

from primia_flwr.models.layers.common import standardise_kernels
from primia_flwr.models.layers.weight_standardisation import WSConv2d

ALPHA = 0.2
# 1 / the standard deviation of the largest of n independent standard normal numbers and 0:
# n = 1 for a ReLU, 4 and 9 for one with a max-pool of 2 x 2 or 3 x 3 after it; 0: the image.
GAINS = {0: 1.0, 1: 1.7128585504496636, 4: 1.4904132477920224, 9: 1.6746902160512238}


def scale_kernel(layer: WSConv2d, *, pooled: int, factor: float = 1.0) -> None:
    """Set the constant of a layer whose input is a ReLU, pooled from `pooled` cells, or an image.

    Parameters
    ----------
    layer : WSConv2d
        Changed in place.
    pooled : int
        Key of `GAINS`.
    factor : float
        Above 0: alpha, or 1 / beta, of a residual branch.
    """
    inputs = layer.weight[0].numel()
    layer.kernel_scale = GAINS[pooled] * factor / math.sqrt(inputs)


def scale_chain(features: nn.Sequential) -> None:
    """Make a plain chain of convolutions, ReLUs and 2 x 2 max-pools one without normalisation."""
    standardise_kernels(features)
    pooled = 0
    for layer in features:
        if isinstance(layer, WSConv2d):
            scale_kernel(layer, pooled=pooled)
        elif isinstance(layer, nn.ReLU):
            pooled = 1
        elif isinstance(layer, nn.MaxPool2d):
            pooled *= 4
