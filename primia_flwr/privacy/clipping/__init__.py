"""Clipping: the sum of the units' gradients, each cut to a norm. A closed table of engines."""

from primia_flwr.privacy.clipping.engine import Engine, PerImageLoss
from primia_flwr.privacy.clipping.table import ENGINES, build_engine

__all__ = ["ENGINES", "Engine", "PerImageLoss", "build_engine"]
