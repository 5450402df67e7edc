"""Clipping: the sum of the units' gradients, each cut to a norm. A closed table of engines.

`engine` is the seam; `ghost`, `gram` and `convolution` are fast, `loop` and `opacus_reference` are
what they are compared with. Imports the models' layers; mechanisms and training import it.
"""

from primia_flwr.privacy.clipping.engine import Engine, PerImageLoss
from primia_flwr.privacy.clipping.table import ENGINES, build_engine

__all__ = ["ENGINES", "Engine", "PerImageLoss", "build_engine"]
