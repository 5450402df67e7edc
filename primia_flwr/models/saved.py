"""A trained model on disk: `model.safetensors` and `model.json`, no pickles.

The card holds what is needed to rebuild the model and to prepare its images, and the SHA-256
of the weights, so that two files of different moments are noticed.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from primia_flwr.errors import CheckpointError
from primia_flwr.models.activation_bounds import ActivationBounds
from primia_flwr.models.card import CARD_FILE, ModelCard, read_card, read_values
from primia_flwr.models.registry import build_model
from primia_flwr.storage.reading import reading, reason_of

WEIGHTS_FILE = "model.safetensors"


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
        outputs=len(card.classes),
        channels=card.channels,
        seed=0,
        first_weights=False,
    )
    model.load_state_dict(load_tensors(weights))
    return model.eval()


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
    values = read_values(path)
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
