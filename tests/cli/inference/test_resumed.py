"""What an interrupted call left is kept if it is whole, of the same images and the same model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from primia_flwr.cli.inference.infer import _stopped
from primia_flwr.cli.inference.predictions import write_tables
from primia_flwr.cli.inference.resumed import Kept, read_kept
from primia_flwr.cli.inference.work import Work
from primia_flwr.config.inference import InferArguments
from primia_flwr.errors import ConfigError, DataError, ServiceError

MODEL = {"sha256": "ab" * 32, "calibrated": 3}
FACTS: dict[str, Any] = {
    "audit": False,
    "model": MODEL,
    "classes": ["normal", "viral"],
    "sessions": [],
    "bytes_preprocessing": 5,
    "seconds_in_all": 1.5,
    "rounds": 26,
}


def row(name: str, content: bytes = b"image") -> dict[str, Any]:
    return {
        "file": name,
        "prediction": "viral",
        "plausible": True,
        "audit": "off",
        "seconds": 0.25,
        "bytes_sent": 10,
        "bytes_received": 20,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def interrupted(folder: Path, *rows: dict[str, Any], **facts: Any) -> Path:
    write_tables(folder, rows, {**FACTS, **facts})
    return folder


def test_what_has_a_row_is_not_asked_again(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for file in files:
        file.write_bytes(b"image")
    kept = read_kept(interrupted(tmp_path / "out", row("a.png"), row("c.png")), audit=False)
    assert [one["file"] for one in kept.rows] == ["a.png", "c.png"]
    assert kept.facts == FACTS
    assert kept.left(files, tmp_path) == [files[1]]
    assert kept.left(files[:1], tmp_path) == []
    assert "sha256" not in (tmp_path / "out" / "predictions.csv").read_text()


@dataclass
class Done:
    """What a call has done: so many rows, of which the tables are written."""

    count: int
    done: list[dict[str, Any]]

    def rows(self) -> list[dict[str, Any]]:
        return self.done

    def facts(self) -> dict[str, Any]:
        return {**FACTS, "complete": False}


def test_resume_is_advised_where_a_call_has_done_something(tmp_path: Path) -> None:
    error = ServiceError("the model owner serves another model now")
    rows = [row("a.png"), row("b.png")]
    kept = Kept(tmp_path / "out", rows, FACTS)
    assert _stopped(error, cast(Work, Done(5, rows)), kept) is error
    assert not (tmp_path / "out").exists()
    found = str(_stopped(error, cast(Work, Done(5, [*rows, row("c.png")])), kept))
    assert f"; 3 of 5 images are done, see {tmp_path / 'out'}; resume={tmp_path / 'out'}" in found
    assert len(read_kept(tmp_path / "out", audit=False).rows) == 3


def test_a_file_that_has_changed_ends_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"another image")
    kept = read_kept(interrupted(tmp_path / "out", row("a.png")), audit=False)
    with pytest.raises(DataError, match=r"a\.png is not the file any more of which"):
        kept.left([tmp_path / "a.png"], tmp_path)


@pytest.mark.parametrize(
    ("model", "classes"),
    [({**MODEL, "sha256": "cd" * 32}, ["normal", "viral"]), (MODEL, ["viral", "normal"])],
)
def test_another_model_ends_it(tmp_path: Path, model: dict[str, Any], classes: list[str]) -> None:
    kept = read_kept(interrupted(tmp_path / "out", row("a.png")), audit=False)
    kept.check_model(MODEL, ("normal", "viral"))
    Kept(tmp_path).check_model(model, classes)  # a call that begins takes any
    with pytest.raises(DataError, match="serves another model now"):
        kept.check_model(model, classes)


def test_one_table_is_audited_or_not(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "out", row("a.png"))
    with pytest.raises(ConfigError, match="whose rows have audit=false; expected audit=false"):
        read_kept(folder, audit=True)


@pytest.mark.parametrize(
    "facts",
    [
        {"model": "x"},
        {"watched": True},
        {"predictions": [1]},
        {"predictions": [row("a"), row("a")]},
    ],
)
def test_what_is_no_interrupted_call_is_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    folder = interrupted(tmp_path / "out", row("a.png"))
    file = folder / "predictions.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))
    with pytest.raises(DataError, match=r"predictions\.json cannot be read"):
        read_kept(folder, audit=False)


def test_a_table_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    old = {key: value for key, value in row("a.png").items() if key != "sha256"}
    with pytest.raises(DataError, match="it has no 'sha256'"):
        read_kept(interrupted(tmp_path / "out", old), audit=False)


def test_where_nothing_lies_nothing_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no predictions\.json"):
        read_kept(tmp_path, audit=False)


def test_drafts_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "out", row("a.png"))
    draft = folder / ".predictions.json.4711"
    draft.write_text("{")
    read_kept(folder, audit=False)
    assert not draft.exists()


@pytest.mark.parametrize("values", [{"watch": True}, {"output": "elsewhere"}])
def test_resume_stands_alone(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected resume alone"):
        InferArguments(resume="results", **values)
    assert InferArguments(resume="results").resume == "results"
