"""What the card beside a file of weights says that the names and shapes of its arrays do not."""

import hashlib
from pathlib import Path

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import CheckpointError, ConfigError
from primia_flwr.models.weights import IMAGENET

# Keys of the model that change what it computes from the same arrays.
_KINDS = ("norm", "weight_standardisation")
_WITHOUT = ("scattering",)  # models to which these mean nothing


def check_kind(cfg: ModelConfig) -> None:
    """Refuse weights whose card names another kind of model, though every array may fit.

    A file without a card beside it that is of its very bytes is judged by its arrays alone.

    Raises
    ------
    ConfigError
        Naming the key, and what the weights were trained with.
    """
    from primia_flwr.models.saved import CARD_FILE, read_card  # which knows the registry

    path = Path(cfg.weights)
    if cfg.weights == IMAGENET or cfg.name in _WITHOUT or not path.is_file():
        return
    try:
        card, digest = read_card(path.parent / CARD_FILE)
    except CheckpointError:
        return
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        return
    for key in _KINDS:
        own, theirs = getattr(cfg, key), getattr(card.model, key)
        if own != theirs:
            raise ConfigError(
                f"model.weights={cfg.weights} with model.{key}={_plain(own)}; expected "
                f"{_plain(theirs)}, with which {CARD_FILE} beside it says that they were trained"
            )


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
