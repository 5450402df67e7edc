"""What the card beside a file of weights says: their kind, and whose images are in them."""

import hashlib
from pathlib import Path

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import CheckpointError, ConfigError
from primia_flwr.models.card import CARD_FILE, ModelCard, read_card
from primia_flwr.models.provenance import NOBODY, UNKNOWN, Provenance
from primia_flwr.models.weights import IMAGENET
from primia_flwr.storage.reading import reading

_STATED = "privacy.weights_without_patients"
# Keys of the model that change what it computes from the same arrays.
_KINDS = ("norm", "weight_standardisation")


def check_kind(cfg: ModelConfig) -> None:
    """Refuse weights whose card names another kind of model, though every array may fit.

    A file without a card beside it that is of its very bytes is judged by its arrays alone.

    Raises
    ------
    ConfigError
        Naming the key, and what the weights were trained with.
    """
    if (
        cfg.weights == IMAGENET
        or not MODELS[cfg.name].has_norm
        or not (card := _card_of(Path(cfg.weights)))
    ):
        return
    if card.lacks:
        raise ConfigError(
            f"model.weights={cfg.weights} lacks its {card.lacks}: each site has its own; expected "
            "weights of a whole model, e.g. those that a site has saved"
        )
    for key in _KINDS:
        own, theirs = getattr(cfg, key), getattr(card.model, key)
        if own != theirs and (own, theirs) != ("frozen", "batch"):
            raise ConfigError(
                f"model.weights={cfg.weights} with model.{key}={_plain(own)}; expected "
                f"{_plain(theirs)}, with which {CARD_FILE} beside it says that they were trained"
            )


def provenance_of(source: str) -> Provenance | None:
    """Return whose images are in `model.weights`; None where nothing says so.

    Random weights and torchvision's of ImageNet are public. A file is known by the card beside it,
    if the card is of these very bytes.
    """
    if source in ("none", IMAGENET):
        return NOBODY
    card = _card_of(Path(source))
    if card is None:
        return None
    if card.provenance is not None:
        return card.provenance
    clean = card.synthetic and card.model.weights in ("none", IMAGENET)
    return Provenance(unprotected=True) if clean else UNKNOWN


def check_start(source: str, privacy: PrivacyConfig, *, synthetic: bool) -> Provenance:
    """Return what weights add to a run's claim, or refuse a private run that may not start there.

    Parameters
    ----------
    source : str
        `model.weights`.
    privacy : PrivacyConfig
        Of the run.
    synthetic : bool
        Whether the run's own images are synthetic; if not, synthetic ones are of none of its
        patients.

    Raises
    ------
    ConfigError
        If the weights may hold patients of this run without privacy.
    """
    found = provenance_of(source)
    if not privacy.enabled:
        return found or UNKNOWN
    if privacy.weights_without_patients or (found and found.drawn and not synthetic):
        return NOBODY
    if found is not None and not found.unprotected:
        return found
    what = (
        "was trained without privacy"
        if found
        else "has no model.json beside it that says what it was trained on"
    )
    raise ConfigError(
        f"model.weights={source} {what}; expected weights that a private run may start from: "
        "whatever they say of a patient no epsilon of this run counts; start from random weights "
        "(model.weights=none), or from those of a private run, whose epsilon is then added; or "
        f"state with {_STATED}=true that none of this run's patients was in their training"
    )


def _card_of(weights: Path) -> ModelCard | None:
    """Return the card beside a file of weights, if it is of these very bytes."""
    try:
        card, digest = read_card(weights.parent / CARD_FILE)
        with reading(weights, error=CheckpointError, expected="a model's weights"):
            same = hashlib.sha256(weights.read_bytes()).hexdigest() == digest
    except CheckpointError:
        return None
    return card if same else None


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
