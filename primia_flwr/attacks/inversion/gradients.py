"""The gradient that a candidate batch of images would have given, differentiable by the images."""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.attacks.inversion.surrogate import replace_rectifiers
from primia_flwr.errors import DataError

_Gradients = tuple[Tensor, ...]


class GradientOf:
    """The model of a round as the attacker runs it.

    The model is in training mode, as at the sites: batch norm normalises by the statistics of
    the candidate batch itself, whatever the running statistics are.

    Parameters
    ----------
    model : nn.Module
        With the weights that the sites got, w0; it is copied and not changed.
    names : sequence of str
        Parameters whose gradient is compared, in this order.
    sees_switches : bool
        Whether derivatives of a gradient go through the switches of rectifiers; see `surrogate`.
    prepare : callable, optional
        What the attacker does to its copy of the model first.

    Raises
    ------
    DataError
        If a name is no parameter of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        *,
        sees_switches: bool = False,
        prepare: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self._model = copy.deepcopy(model).train()
        if sees_switches:
            replace_rectifiers(self._model)
        if prepare:
            prepare(self._model)
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.norms = [m for m in self._model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in self.norms:  # in place updates would pile up over thousands of candidates
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        named = dict(self._model.named_parameters())
        unknown = sorted(set(names) - named.keys())
        if unknown:
            raise DataError(
                f"gradient of {unknown[0]!r}, which is no parameter of the model; expected the "
                "update of this run's model"
            )
        for parameter in named.values():
            parameter.requires_grad_(False)
        self.parameters = [named[name].requires_grad_(True) for name in names]

    def __call__(self, images: Tensor, labels: Tensor) -> _Gradients:
        """Return the gradient of the mean cross entropy, with a graph back to the images.

        Parameters
        ----------
        images : Tensor
            (B, C, H, W) float, normalised.
        labels : Tensor
            (B,) int64.
        """
        loss = functional.cross_entropy(self._model(images), labels)
        return torch.autograd.grad(loss, self.parameters, create_graph=True)

    def to(self, device: torch.device) -> "GradientOf":
        """Move the model to a device."""
        self._model.to(device)
        return self

    def watch(self) -> "BatchStatistics":
        """Return what tells the batch statistics of the last forward pass."""
        return BatchStatistics(self.norms)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the mean softmax over a batch, (classes,), without a graph."""
        with torch.no_grad():
            logits: Tensor = self._model(images)
            return logits.softmax(dim=1).mean(dim=0)


class BatchStatistics:
    """Mean and variance of what enters each batch norm layer, in the layers' order."""

    def __init__(self, norms: Sequence[nn.BatchNorm2d]) -> None:
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []
        self._hooks = [norm.register_forward_pre_hook(self._look) for norm in norms]

    def clear(self) -> None:
        """Forget the pass before."""
        self.means, self.variances = [], []

    def close(self) -> None:
        """Stop looking."""
        for hook in self._hooks:
            hook.remove()

    def _look(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        self.means.append(x.mean(dim=(0, 2, 3)))
        self.variances.append(x.var(dim=(0, 2, 3), unbiased=True))  # as running_var takes it in


def revealed_statistics(
    model: nn.Module, change: Mapping[str, Tensor], *, steps: int
) -> list[tuple[Tensor, Tensor]]:
    """Return mean and variance of the batches, which the running statistics of an update tell.

    With r' = (1 - m)^n r + (1 - (1 - m)^n) s after n steps of momentum m, s follows from the
    change of r. It is exact for one step; for more, s is the batches' moving average.

    Parameters
    ----------
    model : nn.Module
        With the running statistics that were sent, r.
    change : mapping of str to Tensor
        The update, r' - r among it.
    steps : int
        Local steps in it, at least 1.

    Returns
    -------
    list of (Tensor, Tensor)
        (channels,) each, variances at least 0; one pair for each batch norm layer, in the order
        of `model.modules()`; empty for a model without.
    """
    found = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.BatchNorm2d):
            continue
        kept = (1 - (module.momentum or 0.1)) ** steps
        pair = []
        for kind in ("running_mean", "running_var"):
            running = getattr(module, kind)
            pair.append(running + change[f"{name}.{kind}"].to(running) / (1 - kept))
        found.append((pair[0], pair[1].clamp(min=0)))
    return found


def cosine_distance(found: Sequence[Tensor], observed: Sequence[Tensor]) -> Tensor:
    """Return 1 - <a, b> / (|a| |b|) over all tensors together, in [0, 2].

    Source: Geiping et al. 2020, equation 4.
    """
    dot = sum(((a * b).sum() for a, b in zip(found, observed, strict=True)), torch.zeros(()))
    return 1 - dot / (_norm(found) * _norm(observed)).clamp(min=1e-30)


def layer_distances(found: Sequence[Tensor], observed: Sequence[Tensor]) -> Tensor:
    """Return each kernel's and matrix's own cosine distance, (layers,), in [0, 2].

    Unlike the paper's distance over all tensors together they let no layer of large gradients
    outweigh the others. Vectors (biases, scales) are left out.
    """
    pairs = [(a, b) for a, b in zip(found, observed, strict=True) if a.ndim > 1]
    return torch.stack([cosine_distance([a], [b]) for a, b in pairs])


def total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels, down plus across.

    Source: Rudin et al. 1992, in the anisotropic form that Geiping et al. 2020 use.
    """
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    return down + (images[..., 1:] - images[..., :-1]).abs().mean()


def statistics_distance(
    found: BatchStatistics, revealed: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """Return how far a batch's statistics are from those revealed, per layer and channel.

    The mean over the layers of |mu - mu'|^2 / |sigma'|^2 + |sigma - sigma'|^2 / |sigma'|^2,
    so that layers of different scale count alike.

    Source: Yin et al. 2021 (GradInversion), R_BN, there with running instead of revealed
    statistics.
    """
    terms = []
    for mean, variance, (known_mean, known_variance) in zip(
        found.means, found.variances, revealed, strict=True
    ):
        scale = known_variance.sum().clamp(min=1e-12)
        deviation = (variance + 1e-12).sqrt() - (known_variance + 1e-12).sqrt()
        terms.append(((mean - known_mean).square().sum() + deviation.square().sum()) / scale)
    return torch.stack(terms).mean()


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return sum((t.square().sum() for t in tensors), torch.zeros(())).sqrt()
