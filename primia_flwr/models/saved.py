"""A trained model on disk: `model.safetensors` and `model.json`, no pickles.

The card holds what is needed to rebuild the model and to prepare its images, and the SHA-256
of the weights, so that two files of different moments are noticed.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import CheckpointError
from primia_flwr.models.activation_bounds import ActivationBounds
from primia_flwr.models.provenance import Provenance
from primia_flwr.models.registry import build_model
from primia_flwr.storage.reading import parse_json, read_text, reading, reason_of

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"
_LARGEST_SIDE = 1 << 14
_OPTIONAL = ("activation_bounds", "privacy", "provenance")


@dataclass(frozen=True)
class ModelCard:
    """What a user of the weights must know.

    `image_size` in pixels, `resize` as in the data configuration; `mean` and `std` per
    channel of pixels in [0, 1]; `round` is the federated round that the weights come from;
    `synthetic` tells that the training images were synthetic; `activation_bounds` stands in
    cards of calibrated models only, and `privacy` in those of models that were trained with
    differential privacy: what is guaranteed to whom, in words. `provenance`: whose images are in
    the weights, for runs that start from them; None in cards of before 2026-11-29.
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
    format: int = FORMAT
    activation_bounds: ActivationBounds | None = None
    privacy: str = ""
    provenance: Provenance | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON; no key for what there is not."""
        values = asdict(self)
        for name in _OPTIONAL:
            if not values[name]:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelCard":
        """Rebuild a card from `to_dict`'s result; keys that it does not know are left out.

        Raises
        ------
        CheckpointError
            If a key is missing, has another form, or the format is another one.
        """
        if values.get("format") != FORMAT or type(values.get("format")) is not int:
            raise CheckpointError(
                f"{CARD_FILE}: format={values.get('format')!r:.40}; expected {FORMAT}; "
                "use the version of primia_flwr that wrote the model"
            )
        expected = "a model card that primia_flwr wrote; copy the whole run folder again"
        with reading(CARD_FILE, error=CheckpointError, expected=expected):
            names = [item.name for item in fields(cls) if item.name not in _OPTIONAL]
            known: dict[str, Any] = {name: values[name] for name in names}
            known["privacy"] = str(values.get("privacy", ""))
            if "activation_bounds" in values:
                known["activation_bounds"] = ActivationBounds.from_dict(values["activation_bounds"])
            if "provenance" in values:
                known["provenance"] = Provenance.from_dict(values["provenance"])
            known["model"] = _model_of(known["model"])
            for name in ("classes", "mean", "std"):
                known[name] = tuple(known[name])
            card = cls(**known)
            _check_types(card)
            return card


def save_model(run_dir: Path, model: nn.Module, card: ModelCard) -> None:
    """Write the weights, then the card; each file appears whole or not at all.

    Activation bounds are left out: those of the card are of the weights that it came with.

    Raises
    ------
    CheckpointError
        If the folder cannot be written, e.g. a full disk; an earlier file survives.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    weights = save_tensors(state)
    digest = hashlib.sha256(weights).hexdigest()
    described = {**replace(card, activation_bounds=None).to_dict(), "sha256": digest}
    try:
        write_atomically(run_dir / WEIGHTS_FILE, weights)
        _write_card(run_dir / CARD_FILE, described)
    except OSError as error:
        raise CheckpointError(
            f"{run_dir} cannot be written ({error.strerror or error}); expected a writable "
            "folder with free space; the files that were there are unchanged"
        ) from None


def load_model(run_dir: Path) -> tuple[nn.Module, ModelCard]:
    """Rebuild the model of a run folder, on the CPU, in evaluation mode.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or the two do not belong together.
    """
    card, digest = read_card(run_dir / CARD_FILE)
    path = run_dir / WEIGHTS_FILE
    expected = "the folder of a finished run, e.g. run=outputs/2026-01-31/12-00-00-demo"
    with reading(path, error=CheckpointError, expected=expected):
        weights = path.read_bytes()
        if hashlib.sha256(weights).hexdigest() != digest:
            raise CheckpointError(
                f"{path} does not belong to its {CARD_FILE}, or is damaged; expected the two "
                "files of one moment; copy the whole run folder again"
            )
    try:
        return _rebuilt(card, weights), card
    except MemoryError:
        raise
    except Exception as error:  # safetensors' and PyTorch's own errors
        raise CheckpointError(
            f"{path} does not fit the model of {CARD_FILE} ({reason_of(error)}); expected the two "
            "files of one moment; copy the whole run folder again"
        ) from None


def _rebuilt(card: ModelCard, weights: bytes) -> nn.Module:
    model = build_model(
        card.model,
        num_classes=len(card.classes),
        channels=card.channels,
        seed=0,
        first_weights=False,
    )
    model.load_state_dict(load_tensors(weights))
    return model.eval()


def weights_digest(run_dir: Path) -> str:
    """Return the SHA-256 of a saved model's weights, hexadecimal.

    Raises
    ------
    CheckpointError
        If there is no card.
    """
    return read_card(run_dir / CARD_FILE)[1]


def write_bounds(run_dir: Path, bounds: ActivationBounds, *, weights: str) -> None:
    """Put activation bounds into a saved model's card, in place of earlier ones.

    Parameters
    ----------
    run_dir : Path
        Folder of the model.
    bounds : ActivationBounds
        As measured.
    weights : str
        Digest of the weights that they were measured on, from `weights_digest`.

    Raises
    ------
    CheckpointError
        If there is no card, it is another model's by now, or it cannot be written; then it is
        unchanged.
    """
    path = run_dir / CARD_FILE
    values = _read_json(path)
    if str(values.get("sha256")) != weights:
        raise CheckpointError(
            f"{path} is of other weights than those that were measured; expected a folder that "
            "nobody writes to meanwhile; run primia inference calibrate again"
        )
    try:
        _write_card(path, {**values, "activation_bounds": bounds.to_dict()})
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror or error}); expected a writable folder "
            "with free space; the card that was there is unchanged"
        ) from None


def _write_card(path: Path, values: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


def read_card(path: Path) -> tuple[ModelCard, str]:
    """Return a card and the SHA-256 of the weights that it is of.

    Raises
    ------
    CheckpointError
        If there is none, or it cannot be read.
    """
    values = _read_json(path)
    return ModelCard.from_dict(values), str(values.get("sha256"))


def _read_json(path: Path) -> dict[str, Any]:
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
        ("channels", type(card.channels) is int and card.channels in (1, 3)),
        ("image_size", type(card.image_size) is int and 1 <= card.image_size <= _LARGEST_SIDE),
        ("resize", type(card.resize) is str),
        ("mean", _are_finite(card.mean, card.channels)),
        ("std", _are_finite(card.std, card.channels) and min(card.std) > 0),
        ("config_hash", type(card.config_hash) is str),
        ("round", type(card.round) is int),
        ("synthetic", type(card.synthetic) is bool),
    ):
        if not good:
            raise ValueError(f"{name}={getattr(card, name)!r:.60}")


def _are_finite(values: tuple[float, ...], count: int) -> bool:
    return len(values) == count and all(
        type(value) in (int, float) and math.isfinite(value) for value in values
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the target, flush to the disk, then take the target's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
