"""The clipped sum in one forward and one backward pass, without a gradient of each unit.

The parameters take no part in the backward pass: it is asked for the gradients of the layers'
outputs only. From these and the layers' inputs `rules` makes each unit's norm, and then the clipped
sum, which costs what the ordinary weight gradients would have. It holds the inputs and the output
gradients of all layers at a time, more memory than plain training
(benchmarks/primia_bench/privacy/cost.py).

Source: Bu et al. 2022 (mixed ghost clipping) and 2023 (book-keeping); see `convolution`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from primia_flwr.errors import ConfigError
from primia_flwr.models.layers.frames import frames_of
from primia_flwr.privacy.clipping.engine import Engine, PerImageLoss, Weigh
from primia_flwr.privacy.clipping.record import Record, Rule
from primia_flwr.privacy.clipping.rules import rule_for

_Seen = dict[nn.Module, tuple[Tensor, Tensor]]


class GhostEngine(Engine):
    """Mixed ghost clipping with book-keeping."""

    def __init__(
        self, model: nn.Module, loss: PerImageLoss, *, clip_norm: float, views: int = 1
    ) -> None:
        super().__init__(model, loss, clip_norm=clip_norm, views=views)
        self._rules: dict[nn.Module, Rule] = {
            module: rule_for(module)
            for module in model.modules()
            if any(p.requires_grad for p in module.parameters(recurse=False))
        }
        self._frames = frames_of(model)

    def _measure(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Weigh]:
        records = self._records(images, targets)
        units = len(images) // self.views
        squared = torch.zeros(units, dtype=torch.float64, device=images.device)
        with torch.no_grad(), _full_precision():
            for module, record in records.items():
                squared += self._rules[module].squared_norms(record)
        return squared, lambda factors: self._weighed(records, factors)

    def _weighed(self, records: dict[nn.Module, Record], factors: Tensor) -> list[Tensor]:
        """Sum layer by layer, letting go of what each layer kept."""
        sums: dict[int, Tensor] = {}
        with torch.no_grad(), _full_precision():
            while records:
                module, record = records.popitem()
                for parameter, total in self._rules[module].clipped(
                    record, factors.to(record.dy.dtype)
                ):
                    sums[id(parameter)] = total
        return [
            sums[id(p)] if id(p) in sums else torch.zeros_like(p, requires_grad=False)
            for p in self.parameters
        ]

    def _records(self, images: Tensor, targets: Tensor) -> dict[nn.Module, Record]:
        seen: _Seen = {}
        with self._aside(), _watched(self._rules, seen), torch.enable_grad():
            losses = self._losses(images, targets)
            _check_batches(seen, len(images), self._frames)
            outputs = [output for _, output in seen.values()]
            gradients = torch.autograd.grad(losses.sum(), outputs, allow_unused=True)
        return {
            module: Record(x, y.detach(), dy, self.views * self._frames.get(module, 1))
            for (module, (x, y)), dy in zip(seen.items(), gradients, strict=True)
            if dy is not None
        }

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Take the parameters out of the backward pass."""
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(True)


def _check_batches(seen: _Seen, images: int, frames: Mapping[nn.Module, int]) -> None:
    for module, (_, output) in seen.items():
        expected = images * frames.get(module, 1)
        if output.shape[0] != expected:
            raise ConfigError(
                f"a {type(module).__name__} sees {output.shape[0]} rows of {images} images; "
                f"expected {expected}, so that a unit's gradients can be told apart"
            )


@contextmanager
def _full_precision() -> Iterator[None]:
    """Have a GPU multiply in float32, not TF32: norms and sums must be those of one vector."""
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


@contextmanager
def _watched(rules: dict[nn.Module, Rule], seen: _Seen) -> Iterator[None]:
    """Keep each layer's input and output; the first one's output begins the backward pass."""
    hooks = [module.register_forward_hook(_keeper(seen)) for module in rules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _keeper(seen: _Seen) -> Callable[[nn.Module, Any, Tensor], None]:
    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module in seen:
            raise ConfigError(
                f"a {type(module).__name__} is used twice in the model's forward pass; expected "
                "each layer once, as its gradients are clipped together"
            )
        if not output.requires_grad:
            output.requires_grad_()
        seen[module] = (inputs[0].detach(), output)

    return keep
