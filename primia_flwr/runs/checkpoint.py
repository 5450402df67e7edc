"""Checkpoints of a federated run: whole or absent, proven intact when they are read.

A checkpoint is a folder of two files: `arrays.safetensors` (groups of named arrays) and
`state.json` (everything else, with the SHA-256 of both). It is written beside its place,
flushed to the disk, and renamed; the last two are kept, so that a damaged one costs one round.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from primia_flwr.errors import CheckpointError
from primia_flwr.storage.atomic import atomic_folder, writing
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import parse_json, read_bytes, reason_of

logger = logging.getLogger(__name__)

ArrayMap = dict[str, npt.NDArray[Any]]

_FORMAT = 2  # raise where a run begun before would not go on as it was begun
_KEPT = 2
GLOBAL = "global"  # the group of arrays whose names, shapes and dtypes must be the model's
_ARRAYS_FILE, _STATE_FILE = "arrays.safetensors", "state.json"
_NAME = re.compile(r"checkpoint-(\d{6,})")
_DRAFTS = ".checkpoint-*"


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on as if it had never stopped.

    `round` is the last completed round. `arrays` maps a group (`global`, `best`, `strategy`)
    to its named arrays; `state` holds plain JSON types.
    """

    config_hash: str
    round: int
    arrays: Mapping[str, ArrayMap]
    state: Mapping[str, Any]


class _DamagedError(Exception):
    """One checkpoint cannot be read; the one before may."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint atomically and delete all but the last two.

    Raises
    ------
    CheckpointError
        If it cannot be written, e.g. on a full disk; those written before are unharmed.
    """
    done = list(_checkpoints(folder))
    number = done[0][0] + 1 if done else 1
    target = folder / f"checkpoint-{number:06d}"
    with writing(
        f"the checkpoint of round {checkpoint.round} in {folder}",
        error=CheckpointError,
        remedy="expected a writable folder with free space; the checkpoints written before are "
        "unharmed, so make room and resume the run",
    ):
        for left_over in folder.glob(_DRAFTS):  # of a process that was killed
            shutil.rmtree(left_over)
        with atomic_folder(target) as draft:
            for name, content in _encode(checkpoint).items():
                (draft / name).write_bytes(content)
    for _, path in done[_KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
    return target


def load_latest(
    folder: Path, *, config_hash: str, model: Mapping[str, npt.NDArray[Any]]
) -> Checkpoint | None:
    """Read the newest intact checkpoint; None if there is none at all.

    `folder`: the run's `checkpoints` folder. `config_hash`: of the experiment that wants to go on.
    `model`: the configured model's arrays; only names, shapes and dtypes are compared.

    Raises
    ------
    CheckpointError
        If all checkpoints are damaged, or the newest intact one belongs to another experiment
        or another model.
    """
    checkpoint, path = _newest(folder)
    if checkpoint is not None:
        _check_origin(path, checkpoint, config_hash, model)
    return checkpoint


def _newest(folder: Path) -> tuple[Checkpoint | None, Path]:
    """Return the newest intact checkpoint and its folder; None where there is none at all."""
    reasons: list[str] = []
    for _, path in _checkpoints(folder):
        try:
            return _decode(path), path
        except _DamagedError as error:
            logger.warning("%s is damaged (%s); falling back to the one before", path, error)
            reasons.append(f"{path.name}: {error}")
    if reasons:
        raise CheckpointError(
            f"{folder} holds no intact checkpoint ({'; '.join(reasons)}); expected at least one; "
            "start the run again without resume"
        )
    return None, folder


def adopt(folder: Path, *, before: str, after: str, **state: Any) -> None:
    """Save the newest intact checkpoint anew, as one of another experiment, with other state.

    `folder`: the run's `checkpoints` folder; where it holds none, nothing is done. `before`,
    `after`: config hashes: of the checkpoint, and the one it gets; one that has it already stays.
    `**state`: entries of the state that change.

    Raises
    ------
    CheckpointError
        If all are damaged, or the newest intact one belongs to a third experiment.
    """
    found, path = _newest(folder)
    if found is None or found.config_hash == after:
        return
    _check_hash(path, found, before)
    save_checkpoint(folder, Checkpoint(after, found.round, found.arrays, {**found.state, **state}))


def _checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """Finished checkpoints, newest first."""
    paths = folder.iterdir() if folder.is_dir() else iter(())
    found = ((match, path) for path in paths if (match := _NAME.fullmatch(path.name)))
    return iter(sorted(((int(match[1]), path) for match, path in found), reverse=True))


def _encode(checkpoint: Checkpoint) -> dict[str, bytes]:
    whole = {
        f"{group}/{name}": np.asarray(array, order="C")
        for group, named in checkpoint.arrays.items()
        for name, array in named.items()
    }
    arrays = save_tensors(whole)
    content = {
        "round": checkpoint.round,
        "config_hash": checkpoint.config_hash,
        "groups": list(checkpoint.arrays),
        "state": checkpoint.state,
    }
    sealed = {
        "format": _FORMAT,
        "arrays_sha256": hashlib.sha256(arrays).hexdigest(),
        "content_sha256": _digest(content),
        "content": content,
    }
    return {_ARRAYS_FILE: arrays, _STATE_FILE: json.dumps(sealed, indent=1).encode()}


def _check_digests(sealed: Mapping[str, Any], packed: bytes) -> None:
    if sealed["content_sha256"] != _digest(sealed["content"]):
        raise _DamagedError(f"{_STATE_FILE} does not match its SHA-256")
    if sealed["arrays_sha256"] != hashlib.sha256(packed).hexdigest():
        raise _DamagedError(f"{_ARRAYS_FILE} does not match its SHA-256")


def _check_format(path: Path, found: object) -> None:
    if found == _FORMAT:
        return
    if found not in range(1, _FORMAT):
        raise _DamagedError(f"format {found!r:.40}, expected {_FORMAT}")
    raise CheckpointError(
        f"{path} was written by an earlier version of primia (format {found}); expected format "
        f"{_FORMAT}; go on with that version, or start the run again without resume"
    )


def _decode(path: Path) -> Checkpoint:
    try:
        sealed = parse_json(read_bytes(path / _STATE_FILE), finite=False)
        packed = (path / _ARRAYS_FILE).read_bytes()
        content = sealed["content"]
        _check_digests(sealed, packed)
        _check_format(path, sealed["format"])
        arrays: dict[str, ArrayMap] = {group: {} for group in content["groups"]}
        for name, array in load_tensors(packed).items():
            group, _, rest = name.partition("/")
            arrays[group][rest] = array
        found = Checkpoint(content["config_hash"], content["round"], arrays, content["state"])
        if (type(found.config_hash), type(found.round), type(found.state)) != (str, int, dict):
            raise _DamagedError(f"{_STATE_FILE} has an entry of another type")
        return found
    except (_DamagedError, CheckpointError, MemoryError):
        raise
    except OSError as error:
        raise _DamagedError(f"{Path(error.filename or path).name}: {error.strerror}") from None
    except Exception as error:  # on arbitrary bytes parsers raise almost anything
        raise _DamagedError(f"not a checkpoint: {reason_of(error)}") from None


def _check_origin(
    path: Path, checkpoint: Checkpoint, config_hash: str, model: Mapping[str, npt.NDArray[Any]]
) -> None:
    _check_hash(path, checkpoint, config_hash)
    stored = checkpoint.arrays.get(GLOBAL, {})
    for name in sorted(stored.keys() | model.keys()):
        found, expected = (_form(arrays.get(name)) for arrays in (stored, model))
        if found != expected:
            raise CheckpointError(
                f"{path} holds another model: {name!r} is {found}; expected {expected}; "
                "resume with the model that the run was started with"
            )


def _check_hash(path: Path, checkpoint: Checkpoint, config_hash: str) -> None:
    if checkpoint.config_hash != config_hash:
        raise CheckpointError(
            f"{path} belongs to another experiment (config hash "
            f"{printable(checkpoint.config_hash, limit=40)}); expected {config_hash}; resume with "
            "the config.yaml of that run, or start anew"
        )


def _form(array: npt.NDArray[Any] | None) -> str:
    return "absent" if array is None else f"{array.dtype} {tuple(array.shape)}"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
