"""What the data owner makes of a model owner's offer: a card to be trusted with nothing."""

import math
import re
import secrets
from dataclasses import dataclass, replace

from torch import Tensor, nn

from primia_flwr.config.experiment.data import RESIZE_NAMES
from primia_flwr.config.inference import check_audit
from primia_flwr.errors import CheckpointError, ProtocolError
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.plan import Plan
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.messages import (
    MAX_JSON_BYTES,
    NONCE_BYTES,
    VERSION,
    Hello,
    Kind,
    Offer,
    pack,
    unpack,
)
from primia_flwr.models.card import ModelCard
from primia_flwr.models.registry import build_model

_MAX_IMAGE_SIZE = 2048
_MAX_CLASSES = 1000
# Normalised pixels are below it whatever the image. A card whose numbers could lift a pixel out of
# the fixed point would make the session break off for some images and not for others.
_PIXEL_LIMIT = 2.0**17
_CLASS_NAME = re.compile(r"\w[\w .,()/+-]{0,99}")  # nothing that a spreadsheet would compute


@dataclass(frozen=True)
class Answer:
    """Scores (N, classes), float64, and what they took.

    `scores` is None where the audit found a number outside its ring, NaN for an image whose scores
    cannot be right (`plausibility`). `seconds` from the masked image to the scores; bytes on the
    line to the model owner.
    """

    scores: Tensor | None
    seconds: float
    bytes_sent: int
    bytes_received: int


def ask_for_offer(
    channel: Channel, protocol: str, batch: int, batches: int, *, audit: bool = False
) -> tuple[Hello, Offer]:
    """Say hello and return both sides' first message.

    Raises
    ------
    PrimiaError
        If the model owner refuses, or answers something else.
    """
    hello = Hello(VERSION, protocol, batch, batches, secrets.token_hex(NONCE_BYTES), audit)
    channel.send(Kind.HELLO, pack(hello))
    return hello, unpack(channel.receive(Kind.OFFER, at_most=MAX_JSON_BYTES), Offer)


def _in_range(card: ModelCard) -> bool:
    return (
        type(card.image_size) is int
        and 16 <= card.image_size <= _MAX_IMAGE_SIZE
        and type(card.channels) is int
        and card.resize in RESIZE_NAMES
        and 2 <= len(card.classes) <= _MAX_CLASSES
        and all(_CLASS_NAME.fullmatch(name) for name in card.classes)
        and len(card.mean) == len(card.std) == card.channels
        and all(type(value) is float for value in (*card.mean, *card.std))
        and min(card.std) > 0
        and max(_largest_pixel(*pair) for pair in zip(card.mean, card.std, strict=True))
        < _PIXEL_LIMIT
    )


def read_card(offer: Offer) -> ModelCard:
    """Return the offered model's card.

    Raises
    ------
    ProtocolError
        If it is none, or out of range.
    """
    try:
        card = ModelCard.from_dict(offer.card)
        in_range = _in_range(card)
    except (CheckpointError, TypeError, ValueError) as error:
        raise ProtocolError(f"the model owner offers a model card with {error}") from None
    if not in_range:
        raise ProtocolError("the model owner offers a model card with a value out of range")
    return card


def _largest_pixel(mean: float, std: float) -> float:
    """Return the largest magnitude that a pixel in [0, 1] can get; NaN compares as too large."""
    largest = max(abs(mean), abs(1 - mean)) / std
    return largest if math.isfinite(largest) else math.inf


def plan_of(card: ModelCard, offer: Offer, batch: int, *, audit: bool = False) -> Plan:
    """Return the plan of the offered architecture, lowered here.

    Raises
    ------
    ProtocolError
        If the model owner's is another one.
    ConfigError
        If it is to be audited and its ring is too large for that.
    """
    check_audit(audit, "fss", offer.compare_bits)
    model = build_architecture(card)
    shape = (batch, card.channels, card.image_size, card.image_size)
    plan = replace(lower(model, shape, compare_bits=offer.compare_bits).plan, audit=audit)
    if plan.digest != offer.plan:
        raise ProtocolError(
            f"the model owner computes {card.model.name} by another plan; do both parties run the "
            "same version of primia_flwr?"
        )
    return plan


def build_architecture(card: ModelCard) -> nn.Module:
    """Return the offered architecture, in evaluation mode, with weights that mean nothing."""
    model = build_model(
        card.model, outputs=len(card.classes), channels=card.channels, seed=0, first_weights=False
    )
    return model.eval()
