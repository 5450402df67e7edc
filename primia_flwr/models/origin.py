"""Where the first weights of a run came from, and their SHA-256: a part of a model's card."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from primia_flwr.compat import torchvision
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.weights import IMAGENET

_SHA256 = re.compile(r"([0-9a-f]{64})?")


@dataclass(frozen=True)
class Origin:
    """What a run began with.

    `source`: `model.weights`, a file by its name alone. `publisher`: who published it, empty for
    random weights and for files. `file_sha256`: of the file, empty for random weights.
    `arrays_sha256`: of all arrays as the run began, which a site's `initial_weights` names.
    """

    source: str
    publisher: str
    file_sha256: str
    arrays_sha256: str

    def to_dict(self) -> dict[str, str]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Origin":
        """Read what `to_dict` made.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        found = cls(**values)
        hashes = (found.file_sha256, found.arrays_sha256)
        if not all(type(value) is str for value in asdict(found).values()) or not all(
            _SHA256.fullmatch(value) for value in hashes
        ):
            raise ValueError(f"origin={dict(values)!r:.200}")
        return found


def origin_of(cfg: ModelConfig, *, arrays_sha256: str) -> Origin:
    """Return where the weights of a model that was just built came from; they were read before."""
    row: Architecture = MODELS[cfg.name]
    if cfg.weights == "none":
        return Origin("none", "", "", arrays_sha256)
    if cfg.weights != IMAGENET:
        path = Path(cfg.weights)
        return Origin(path.name, "", _sha256(path), arrays_sha256)
    if row.packaged:
        return Origin(IMAGENET, row.packaged.distribution, row.packaged.sha256, arrays_sha256)
    file = _downloaded(row)
    return Origin(IMAGENET, f"torchvision: {file.name}", _sha256(file), arrays_sha256)


def is_here(cfg: ModelConfig) -> bool:
    """Whether the weights of a model can be had without a network and without anybody's file."""
    row: Architecture = MODELS[cfg.name]
    if cfg.weights != IMAGENET:
        return cfg.weights == "none"
    return bool(row.packaged) or _downloaded(row).is_file()


def _downloaded(row: Architecture) -> Path:
    """Return where torchvision keeps the file once it is there."""
    url = torchvision.models.get_model_weights(row.torchvision_name).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name


def _sha256(path: Path) -> str:
    """Return a file's hash; nothing where it has been taken away since it was read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
