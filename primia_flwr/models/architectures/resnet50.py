"""ResNet-50 (He et al. 2016)."""

from primia_flwr.models.layers.resnet import resnet

MODEL = resnet("resnet50", "bottleneck", [3, 4, 6, 3])
