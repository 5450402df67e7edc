"""What the process of some baselines and the run that waits for them tell each other, as files.

All in one folder: what is asked, by the run; of each baseline how far it is and what came of it;
and the mistake for which a process gave up. No pickles.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from primia_flwr import errors
from primia_flwr.errors import CheckpointError, PrimiaError
from primia_flwr.pipeline.baselines.one import Trained
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage.atomic import write_atomic, write_together, writing
from primia_flwr.storage.reading import parse_json, read_text, reading

EXPERIMENT = "experiment"
"""Of what is asked: the text of the experiment, which is another in a run that is resumed."""

_ASKED, _MISTAKE = "asked.json", "mistake.json"
_EXPECTED = "what the run wrote; remove the folder and resume the run"
_KINDS: dict[str, type[PrimiaError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, PrimiaError)
}


def ask(folder: Path, asked: Mapping[str, Any]) -> None:
    """Write what is to be trained; what came of another question is no answer to it, and goes.

    Two questions are the same that differ in the text of the experiment only: its hash, among the
    rest, says whether it is the same one.
    """
    same = _deciding(asked_in(folder)) == _deciding(asked)
    with _writing(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        for file in folder.iterdir():
            if not same or file.suffix == ".told" or file.name == _MISTAKE:
                file.unlink()
        write_atomic(folder / _ASKED, json.dumps(asked))


def _deciding(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if key != EXPERIMENT}


def asked_in(folder: Path) -> dict[str, Any]:
    """Return what is asked; nothing where nothing is."""
    return read_json(folder / _ASKED)


def tell(folder: Path, name: str, done: float, total: float, note: str) -> None:
    """Write how far a baseline is."""
    with _writing(folder):
        write_atomic(folder / f"{name}.told", json.dumps({"at": [done, total], "note": note}))


def told(folder: Path, name: str) -> tuple[float, float, str] | None:
    """Return how far a baseline is; None before its first round has ended."""
    values = read_json(folder / f"{name}.told")
    return (*values["at"], values["note"]) if values else None


def hand_over(folder: Path, name: str, trained: Trained) -> None:
    """Write what came of a baseline."""
    known = {key: value for key, value in vars(trained).items() if key != "state"}
    weights, facts = _files(folder, name)
    with _writing(folder):
        write_together({weights: save_tensors(trained.state), facts: json.dumps(known)})


def is_there(folder: Path, name: str) -> bool:
    """Return whether a baseline has been handed over."""
    return _files(folder, name)[1].is_file()


def taken(folder: Path, name: str) -> Trained:
    """Return what came of a baseline.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    weights, facts = _files(folder, name)
    with reading(weights, error=CheckpointError, expected=_EXPECTED):
        known = parse_json(read_text(facts))
        mean, std = (tuple(map(float, known[key])) for key in ("mean", "std"))
        state = load_tensors(weights.read_bytes())
        return Trained(state, int(known["best_round"]), mean, std, tuple(known["classes"]))


def give_up(folder: Path, error: PrimiaError) -> None:
    """Write the mistake that ends the work of a process."""
    kind = next(one for one in type(error).__mro__ if one.__name__ in _KINDS)
    with _writing(folder):
        write_atomic(folder / _MISTAKE, json.dumps({"kind": kind.__name__, "text": str(error)}))


def mistake_in(folder: Path) -> PrimiaError | None:
    """Return the mistake for which a process gave up, as it was raised there."""
    values = read_json(folder / _MISTAKE)
    if not values:
        return None
    kind = _KINDS.get(str(values.get("kind")), PrimiaError)
    mistake = kind.__new__(kind)
    mistake.args = (str(values.get("text")),)
    return mistake


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    remedy = "expected a writable folder with free space; resume the run"
    with writing(folder, error=CheckpointError, remedy=remedy):
        yield


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.safetensors", folder / f"{name}.json"
