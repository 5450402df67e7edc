"""The closed table of clipping engines."""

from typing import Protocol

from torch import nn

from primia_flwr.config.checks import check_choice
from primia_flwr.extras import need
from primia_flwr.privacy.clipping.engine import Engine, PerImageLoss
from primia_flwr.privacy.clipping.ghost import GhostEngine
from primia_flwr.privacy.clipping.local_steps import LocalSteps
from primia_flwr.privacy.clipping.loop import LoopEngine


class Builder(Protocol):
    """Builds an engine for a model."""

    def __call__(
        self, model: nn.Module, loss: PerImageLoss, *, clip_norm: float, views: int = 1
    ) -> Engine:
        """Return the engine."""


def _opacus(model: nn.Module, loss: PerImageLoss, *, clip_norm: float, views: int = 1) -> Engine:
    need("opacus", "privacy.engine=opacus", instead="privacy.engine=ghost")
    from primia_flwr.privacy.clipping.opacus_reference import OpacusEngine  # heavy

    return OpacusEngine(model, loss, clip_norm=clip_norm, views=views)


ENGINES: dict[str, Builder] = {"ghost": GhostEngine, "loop": LoopEngine, "opacus": _opacus}


def build_engine(
    name: str,
    model: nn.Module,
    loss: PerImageLoss,
    *,
    clip_norm: float,
    views: int = 1,
    unit_steps: int = 1,
    unit_rate: float = 1.0,
) -> Engine:
    """Build an engine by its name: `ghost` (fast), `loop` (plain), `opacus` (the reference).

    `unit_steps`, `unit_rate`: of `loop`, as `LocalSteps` takes them.

    Raises
    ------
    ConfigError
        If the name is another one, or the model cannot be clipped.
    MissingExtraError
        If it is `opacus`, which is not installed.
    """
    check_choice("privacy.engine", name, ENGINES)
    if name == "loop" and unit_steps > 1:
        return LocalSteps(
            model, loss, clip_norm=clip_norm, views=views, steps=unit_steps, rate=unit_rate
        )
    return ENGINES[name](model, loss, clip_norm=clip_norm, views=views)
