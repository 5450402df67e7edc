"""A trained model on disk: `model.safetensors` and `model.json`, no pickles.

The card holds what is needed to rebuild the model and to prepare its images, and the SHA-256
of the weights, so that two files of different moments are noticed.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from primia_flwr.errors import CheckpointError
from primia_flwr.models.activation_bounds import ActivationBounds
from primia_flwr.models.card import CARD_FILE, ModelCard, read_card, read_values
from primia_flwr.models.empty import empty_model
from primia_flwr.models.ensemble import Ensemble
from primia_flwr.models.layers.lora import plain_state
from primia_flwr.storage.atomic import write_atomic, write_together, writing
from primia_flwr.storage.reading import reading, reason_of

_WEIGHTS_FILE = "model.safetensors"
_EXPECTED = "expected a writable folder with free space"


def save_model(run_dir: Path, model: nn.Module, card: ModelCard) -> None:
    """Write the weights, then the card; each file appears whole or not at all.

    Adapters are added to the layers that they stand beside, so that what is saved is a plain model.
    Activation bounds are left out: those of the card are of the weights that it came with.

    Raises
    ------
    CheckpointError
        If the folder cannot be written, e.g. a full disk; an earlier file survives.
    """
    whole = _parts(model) if isinstance(model, Ensemble) else plain_state(model)
    state = {name: value.detach().cpu().contiguous() for name, value in whole.items()}
    weights = save_tensors(state)
    digest = hashlib.sha256(weights).hexdigest()
    kind = replace(card.model, trainable="all") if card.model.adapted else card.model
    card = replace(card, model=kind, activation_bounds=None)
    described = {**card.to_dict(), "sha256": digest}
    files = (run_dir / _WEIGHTS_FILE, run_dir / CARD_FILE)
    remedy = f"{_EXPECTED}; the files that were there are unchanged"
    with writing(run_dir, error=CheckpointError, remedy=remedy):
        run_dir.mkdir(parents=True, exist_ok=True)
        write_together(dict(zip(files, (weights, _text(described)), strict=True)))


def _check_asked(run_dir: Path, card: ModelCard, *, whole: bool, single: bool) -> None:
    """Refuse a part of a model, or several models, where one whole model is asked for."""
    if whole and card.lacks:
        raise CheckpointError(
            f"{run_dir} lacks its {card.lacks}: each site has its own (model.shared="
            f"{card.model.shared}); expected the whole model that a site has saved, e.g. "
            f"{run_dir}/sites/<site>/model of a simulation"
        )
    if single and card.votes:
        raise CheckpointError(
            f"{run_dir} holds an ensemble of {len(card.votes.members)} models; expected one model "
            "here; an ensemble is read by primia evaluate and primia predict"
        )


def _read_weights(path: Path, digest: str) -> bytes:
    expected = "the folder of a finished run, e.g. run=outputs/2026-01-31/12-00-00-demo"
    with reading(path, error=CheckpointError, expected=expected):
        weights = path.read_bytes()
        if hashlib.sha256(weights).hexdigest() != digest:
            raise CheckpointError(
                f"{path} does not belong to its {CARD_FILE}, or is damaged; expected the two "
                "files of one moment; copy the whole run folder again"
            )
        return weights


def load_model(
    run_dir: Path, *, whole: bool = True, single: bool = False
) -> tuple[nn.Module, ModelCard]:
    """Rebuild the model of a run folder, on the CPU, in evaluation mode.

    `whole`: refuse a model that lacks layers, because each site has its own. `single`: refuse an
    ensemble.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or the two do not belong together.
    """
    card, digest = read_card(run_dir / CARD_FILE)
    _check_asked(run_dir, card, whole=whole, single=single)
    path = run_dir / _WEIGHTS_FILE
    weights = _read_weights(path, digest)
    try:
        return _rebuilt(card, weights), card
    except MemoryError:
        raise
    except Exception as error:  # safetensors' and PyTorch's own errors
        raise CheckpointError(
            f"{path} does not fit the model of {CARD_FILE} ({reason_of(error)}); expected the two "
            "files of one moment; copy the whole run folder again"
        ) from None


def _parts(model: Ensemble) -> dict[str, Tensor]:
    """Return the arrays of all members, each name behind the member's."""
    pairs = zip(model.votes.members, model.members, strict=True)
    return {f"{name}/{key}": v for name, one in pairs for key, v in plain_state(one).items()}


def _rebuilt(card: ModelCard, weights: bytes) -> nn.Module:
    arrays = load_tensors(weights)
    if card.votes is None:
        return _model_of(card, arrays)
    own = {name: dict[str, Tensor]() for name in card.votes.members}
    for key, value in arrays.items():
        name, _, rest = key.partition("/")
        own[name][rest] = value
    members = {name: _model_of(card, values) for name, values in own.items()}
    return Ensemble(members, card.votes).eval()


def _model_of(card: ModelCard, arrays: dict[str, Tensor]) -> nn.Module:
    model = empty_model(card.model, outputs=len(card.classes), channels=card.channels)
    model.load_state_dict(arrays)
    return model.eval()


def write_bounds(run_dir: Path, bounds: ActivationBounds, *, weights: str) -> None:
    """Put activation bounds into a saved model's card, in place of earlier ones.

    `run_dir`: folder of the model. `bounds`: as measured. `weights`: digest of the weights that
    they were measured on, from `weights_digest`.

    Raises
    ------
    CheckpointError
        If there is no card, it is another model's by now, or it cannot be written; then it is
        unchanged.
    """
    path = run_dir / CARD_FILE
    values = read_values(path)
    if str(values.get("sha256")) != weights:
        raise CheckpointError(
            f"{path} is of other weights than those that were measured; expected a folder that "
            "nobody writes to meanwhile; run primia inference calibrate again"
        )
    remedy = f"{_EXPECTED}; the card that was there is unchanged"
    with writing(path, error=CheckpointError, remedy=remedy):
        write_atomic(path, _text({**values, "activation_bounds": bounds.to_dict()}))


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1) + "\n"
