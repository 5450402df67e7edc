"""ResNet-18 (He et al. 2016)."""

from primia_flwr.models.layers.resnet import resnet

MODEL = resnet("resnet18", "basic", [2, 2, 2, 2])
