"""An exponential average of the parameters over the steps: post-processing of noisy steps.

It evens out the noise of the last steps and costs no privacy.

Source: De et al. 2022, Unlocking High-Accuracy Differentially Private Image Classification through
Scale, section 3.4; the warm-up (1 + t) / (10 + t) is theirs.
"""

import torch
from torch import Tensor, nn

from primia_flwr.config.checks import check_range


class ParameterAverage:
    """Follows a model's parameters.

    Parameters
    ----------
    model : nn.Module
        As it is before the first step.
    decay : float
        Weight of the past, in [0, 1); 0 keeps the last step's parameters only.

    Raises
    ------
    ConfigError
        If `decay` is out of range.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        check_range("decay", decay, 0, 1, example=0.999, open_high=True)
        self._decay = decay
        self._steps = 0
        self._average = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the parameters after a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        for name, parameter in model.named_parameters():
            self._average[name].lerp_(parameter, 1 - decay)

    def parameters(self) -> dict[str, Tensor]:
        """Return copies of the averages by the parameters' names."""
        return {name: value.clone() for name, value in self._average.items()}
