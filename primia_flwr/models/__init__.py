"""Models: the table of architectures, their first weights, and saving without pickles.

`registry` builds, `saved` writes and reads, `card` is what a user must know of the weights,
`provenance` whose images are in them, `arrival` what a site accepts. Imports the configuration
and `storage`; training, inference, the pipeline and both apps import it.
"""

from primia_flwr.models.card import ModelCard
from primia_flwr.models.registry import build_model, check_image_size
from primia_flwr.models.saved import load_model, save_model

__all__ = ["ModelCard", "build_model", "check_image_size", "load_model", "save_model"]
