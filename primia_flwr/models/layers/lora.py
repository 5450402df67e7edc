"""Adapters of low rank: beside each layer that stays as it is, a small one that is trained.

y = layer(x) + alpha / rank * up(down(x)). `down` is a convolution of the layer's own geometry with
`rank` outputs, `up` one of 1 x 1 that begins at zero, so the model begins as it was. Both are plain
layers: they are clipped, averaged and masked as any other. As both are linear, they can be added to
the layer's own kernel, and what is saved is a plain model (`plain_state`).

Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from primia_flwr.errors import ConfigError

_Layer = nn.Conv2d | nn.Linear


class Adapted(nn.Module):
    """A layer and its adapter.

    Parameters
    ----------
    base : nn.Conv2d or nn.Linear
        Not grouped; kept as it is.
    rank : int
        Outputs of `down`, at least 1.
    alpha : float
        Above 0; the adapter counts alpha / rank times.
    """

    def __init__(self, base: _Layer, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        self.down, self.up = _adapter(base, rank)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map what the layer maps, to the same shape."""
        return self.base(x) + self.scale * self.up(self.down(x))  # type: ignore[no-any-return]

    def merged_weight(self) -> Tensor:
        """Return the kernel of the one layer that does what both do; summed up in float64."""
        up, down = (layer.weight.detach().double() for layer in (self.up, self.down))
        change = (up.flatten(1) @ down.flatten(1)).view_as(self.base.weight)
        whole = self.base.weight.detach().double() + self.scale * change
        return whole.to(self.base.weight.dtype)


def add_adapters(model: nn.Module, *, head: str, rank: int, alpha: float) -> None:
    """Put an adapter beside each layer but the head, in place; drawn from the global generator.

    Left as they are: grouped convolutions, and layers that an adapter would be no smaller than.

    Raises
    ------
    ConfigError
        If no layer is left.
    """
    chosen = [
        (parent, name, layer)
        for path, parent in list(model.named_modules())
        for name, layer in parent.named_children()
        if not _in_head(f"{path}.{name}" if path else name, head) and _fits(layer, rank)
    ]
    for parent, name, layer in chosen:
        setattr(parent, name, Adapted(layer, rank=rank, alpha=alpha))
    if not chosen:
        raise ConfigError(
            f"model.trainable=lora with model.lora_rank={rank}: no layer of this model is larger "
            "than its adapter; expected a lower rank, or model.trainable=head"
        )


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's arrays by name, as they are without adapters: these are added in."""
    state = model.state_dict()
    for path, layer in _adapted(model):
        own = {name: state.pop(f"{path}.{name}") for name in layer.state_dict()}
        state[f"{path}.weight"] = layer.merged_weight()
        if "base.bias" in own:
            state[f"{path}.bias"] = own["base.bias"]
    return dict(state)


def _adapted(model: nn.Module) -> Iterator[tuple[str, Adapted]]:
    for path, layer in model.named_modules():
        if isinstance(layer, Adapted):
            yield path, layer


def _in_head(path: str, head: str) -> bool:
    return path == head or path.startswith(f"{head}.")


def _fits(layer: nn.Module, rank: int) -> bool:
    if type(layer) not in (nn.Conv2d, nn.Linear) or getattr(layer, "groups", 1) != 1:
        return False
    assert isinstance(layer.weight, Tensor)
    outputs, inputs = layer.weight.flatten(1).shape
    return rank * (outputs + inputs) < outputs * inputs


def _adapter(base: _Layer, rank: int) -> tuple[_Layer, _Layer]:
    if isinstance(base, nn.Linear):
        inputs, outputs = base.in_features, base.out_features
        return nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
    down = nn.Conv2d(
        base.in_channels,
        rank,
        base.kernel_size,  # type: ignore[arg-type]
        base.stride,  # type: ignore[arg-type]
        base.padding,  # type: ignore[arg-type]
        base.dilation,  # type: ignore[arg-type]
        bias=False,
    )
    return down, nn.Conv2d(rank, base.out_channels, kernel_size=1, bias=False)
