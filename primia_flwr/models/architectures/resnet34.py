"""ResNet-34 (He et al. 2016)."""

from primia_flwr.models.layers.resnet import resnet

MODEL = resnet("resnet34", "basic", [3, 4, 6, 3])
