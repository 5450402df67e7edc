"""Models: a closed table of architectures, their first weights, and saving without pickles."""

from primia_flwr.models.card import ModelCard
from primia_flwr.models.registry import build_model, check_image_size
from primia_flwr.models.saved import load_model, save_model

__all__ = ["ModelCard", "build_model", "check_image_size", "load_model", "save_model"]
