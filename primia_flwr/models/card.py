"""The card of a trained model, `model.json`: what it is, and how its images are prepared."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.data import MOST_FRAMES
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import CheckpointError
from primia_flwr.models.activation_bounds import ActivationBounds
from primia_flwr.models.origin import Origin
from primia_flwr.models.provenance import Provenance
from primia_flwr.models.votes import Votes
from primia_flwr.storage.reading import parse_json, read_text, reading

_FORMAT = 1
CARD_FILE = "model.json"
_LARGEST_SIDE = 1 << 14
SINGLE, ENSEMBLE = "single", "ensemble"
_OPTIONAL = (
    "activation_bounds", "privacy", "provenance", "site", "origin", "set_scores", "kind", "votes",
    "several",
)  # fmt: skip
_OWN = {"no_norm": "norm layers", "body": "classifier"}


_PARTS: Mapping[str, Callable[[Any], object]] = {
    "activation_bounds": ActivationBounds.from_dict,
    "provenance": Provenance.from_dict,
    "origin": Origin.from_dict,
    "votes": Votes.from_dict,
}


@dataclass(frozen=True)
class ModelCard:
    """What a user of the weights must know.

    `image_size` in pixels, `resize` as in the data configuration; `mean` and `std` per
    channel of pixels in [0, 1]; `round` is the federated round that the weights come from;
    `synthetic` tells that the training images were synthetic; `activation_bounds` stands in
    cards of calibrated models only, and `privacy` in those of models that were trained with
    differential privacy: what is guaranteed to whom, in words. `provenance`: whose images are in
    the weights, for runs that start from them; None in cards of before 2026-11-29.
    `site`: whose own layers are in it, where sites have some; the coordinator's model has none.
    `origin`: where the first weights came from; None in cards of before 2026-11-30.
    `kind`: `single`, or an `ensemble` of several models, of which `votes` says the members.
    `several`: each output is a finding by itself (a sigmoid), not one class of all (a softmax).
    `set_scores`: of a model of `task=conformal`, by class, how many validation patients had a score
    in each bin.
    """

    model: ModelConfig
    classes: tuple[str, ...]
    channels: int
    image_size: int
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config_hash: str
    round: int
    synthetic: bool
    format: int = _FORMAT
    activation_bounds: ActivationBounds | None = None
    privacy: str = ""
    provenance: Provenance | None = None
    site: str = ""
    origin: Origin | None = None
    set_scores: tuple[tuple[int, ...], ...] = ()
    several: bool = False
    kind: str = SINGLE
    votes: Votes | None = None

    @property
    def frames(self) -> int:
        """How many frames its images have: 1, or as many as channels."""
        reads = self.channels > 1 and MODELS[self.model.name].sequences
        return self.channels if reads else 1

    @property
    def lacks(self) -> str:
        """What the model lacks, because each site has its own: nothing in most models."""
        return "" if self.site else _OWN.get(self.model.shared, "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON; no key for what there is not."""
        values = asdict(self)
        for name in _OPTIONAL:
            if not values[name]:
                del values[name]
        return values | ({"lacks": self.lacks} if self.lacks else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelCard":
        """Rebuild a card from `to_dict`'s result; keys that it does not know are left out.

        Raises
        ------
        CheckpointError
            If a key is missing, has another form, or the format is another one.
        """
        if values.get("format") != _FORMAT or type(values.get("format")) is not int:
            raise CheckpointError(
                f"{CARD_FILE}: format={values.get('format')!r:.40}; expected {_FORMAT}; "
                "use the version of primia_flwr that wrote the model"
            )
        expected = "a model card that primia_flwr wrote; copy the whole run folder again"
        with reading(CARD_FILE, error=CheckpointError, expected=expected):
            names = [item.name for item in fields(cls) if item.name not in _OPTIONAL]
            known: dict[str, Any] = {name: values[name] for name in names}
            known |= {name: str(values.get(name, "")) for name in ("privacy", "site")}
            known |= {name: read(values[name]) for name, read in _PARTS.items() if name in values}
            known["set_scores"] = tuple(map(tuple, values.get("set_scores", ())))
            known["several"] = values.get("several", False)
            known["kind"] = values.get("kind", SINGLE)
            known["model"] = _model_of(known["model"])
            for name in ("classes", "mean", "std"):
                known[name] = tuple(known[name])
            card = cls(**known)
            _check_types(card)
            return card


def read_card(path: Path) -> tuple[ModelCard, str]:
    """Return a card and the SHA-256 of the weights that it is of.

    Raises
    ------
    CheckpointError
        If there is none, or it cannot be read.
    """
    values = read_values(path)
    return ModelCard.from_dict(values), str(values.get("sha256"))


def weights_digest(run_dir: Path) -> str:
    """Return the SHA-256 of a saved model's weights, hexadecimal.

    Raises
    ------
    CheckpointError
        If there is no card.
    """
    return read_card(run_dir / CARD_FILE)[1]


def read_values(path: Path) -> dict[str, Any]:
    """Return what a card's file says, its types unchecked.

    Raises
    ------
    CheckpointError
        If there is none, or it is no JSON object.
    """
    expected = (
        "the card of a saved model in the folder of a finished run, e.g. "
        "run=outputs/2026-01-31/12-00-00-demo"
    )
    with reading(path, error=CheckpointError, expected=expected):
        values = parse_json(read_text(path))
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
    return dict(values)


def _model_of(values: Mapping[str, Any]) -> ModelConfig:
    """Return the architecture of a card, whose values have the types that the defaults have."""
    model = ModelConfig(**values)
    for item in fields(model):
        if type(getattr(model, item.name)) is not type(item.default):
            raise ValueError(f"model.{item.name}={getattr(model, item.name)!r:.60}")
    return model


def _check_types(card: ModelCard) -> None:
    """Refuse what the rest of the package would stumble over."""
    for name, good in (
        ("classes", card.classes and all(type(one) is str for one in card.classes)),
        ("channels", type(card.channels) is int and _are_channels(card)),
        ("image_size", type(card.image_size) is int and 1 <= card.image_size <= _LARGEST_SIDE),
        ("resize", type(card.resize) is str),
        ("mean", _are_finite(card.mean, card.channels)),
        ("std", _are_finite(card.std, card.channels) and min(card.std) > 0),
        ("config_hash", type(card.config_hash) is str),
        ("round", type(card.round) is int),
        ("synthetic", type(card.synthetic) is bool),
        ("several", type(card.several) is bool),
        ("kind", card.kind == (ENSEMBLE if card.votes else SINGLE)),
        ("set_scores", _are_counts(card.set_scores, len(card.classes))),
    ):
        if not good:
            raise ValueError(f"{name}={getattr(card, name)!r:.60}")


def _are_channels(card: ModelCard) -> bool:
    return card.channels in (1, 3) or 2 <= card.frames <= MOST_FRAMES


def _are_counts(rows: tuple[tuple[int, ...], ...], classes: int) -> bool:
    """Say whether rows are of whole numbers, as many in each, one row a class; or none at all."""
    if not rows:
        return True
    whole = all(type(n) is int and 0 <= n < 1 << 53 for row in rows for n in row)
    return whole and len(rows) == classes and len({len(row) for row in rows}) == 1 and bool(rows[0])


def _are_finite(values: tuple[float, ...], count: int) -> bool:
    return len(values) == count and all(
        type(value) in (int, float) and math.isfinite(value) for value in values
    )
