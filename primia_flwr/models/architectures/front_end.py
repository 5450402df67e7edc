"""The part of a model that is public: fixed filters, computed by whoever has the image.

It comes before the first number that training has chosen, so encrypted inference leaves it to the
data owner in the clear and begins behind it.
"""

from torch import nn

from primia_flwr.models.architectures.scattering import ScatteringNet


def split_front(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return the public front end, an identity where there is none, and what comes behind it."""
    if isinstance(model, ScatteringNet):
        return model.front, nn.Sequential(model.classifier)
    return nn.Identity(), model
