"""The part of a model that is public: fixed filters, computed by whoever has the image.

It comes before the first number that training has chosen, so encrypted inference leaves it to the
data owner in the clear and begins behind it.
"""

from torch import nn


class WithFrontEnd(nn.Module):
    """A model whose first part, `front`, has no trained number; `classifier` is the rest."""

    front: nn.Module
    classifier: nn.Module


def split_front(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return the public front end, an identity where there is none, and what comes behind it."""
    if isinstance(model, WithFrontEnd):
        return model.front, nn.Sequential(model.classifier)
    return nn.Identity(), model
