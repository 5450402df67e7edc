"""The block of a U-Net: twice a convolution, a norm and a ReLU (Ronneberger et al. 2015)."""

from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.layers.common import activation, norm_layer, standardise_kernels
from primia_flwr.models.layers.norm_free import scale_kernel
from primia_flwr.models.layers.weight_standardisation import WSConv2d


class DoubleConvolution(nn.Sequential):
    """Twice a convolution, a norm and a ReLU; `pooled`: from how many cells its input is."""

    def __init__(self, cfg: ModelConfig, inputs: int, outputs: int, *, pooled: int) -> None:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            convolution = nn.Conv2d(width, outputs, kernel_size=3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, norm_layer(cfg)(outputs), activation(cfg)]
        super().__init__(*layers)
        if cfg.norm == "none":
            standardise_kernels(self)
            for layer, cells in zip((self[0], self[3]), (pooled, 1), strict=True):
                assert isinstance(layer, WSConv2d)
                scale_kernel(layer, pooled=cells)
