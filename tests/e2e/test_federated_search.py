"""A search over real Flower processes: what it chooses is an ordinary run; a kill costs nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from primia_flwr.reporting.chapters.search import overrides
from tests.e2e.runner import TINY, Primia, events, last_json, processes_of

SEARCH = (*TINY, "search=demo", "federation.rounds=4")
pytestmark = pytest.mark.slow


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _wait(condition, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def weights_of_the_ordinary_run(primia: Primia, search: Path) -> str:
    """Train the configuration that a search chose by itself; return the digest of its model."""
    found = json.loads((search / "search.json").read_text())
    words = overrides(found).replace('"', "").split()
    alike = ("federation.rounds=4", "aggregation.clip=512", "output_dir=ordinary")
    done = primia("train", *TINY, *alike, *words, seconds=480)
    assert done.returncode == 0, done.stderr
    return _sha256(primia.folder / "ordinary" / "model.safetensors")


@pytest.mark.timeout(900)
def test_the_model_of_a_search_is_that_of_an_ordinary_run(primia: Primia) -> None:
    whole = primia("train", *SEARCH, "output_dir=whole", seconds=480)
    assert whole.returncode == 0, whole.stderr
    assert last_json(whole.stdout)["rounds"] == 4
    run = primia.folder / "whole"
    found = json.loads((run / "search.json").read_text())
    # 4 for one round, 2 for one more, 1 for two more
    trained = [event for event in events(run) if event["event"] == "round_finished"]
    assert len(trained) == 4 + 2 + 2
    images = sum(site["train"] for site in json.loads((run / "run.json").read_text())["sites"])
    assert found["image_passes"] == 8 * images
    assert [c["status"] for c in found["configurations"]].count("chosen") == 1
    assert "Search for the configuration" in (run / "report.html").read_text()
    assert not any(
        value
        for path in run.glob("search/*/sites.csv")
        for line in path.read_text().splitlines()[1:]
        for value in line.split(",")[4:]
    ), "nothing of a single site"
    assert weights_of_the_ordinary_run(primia, run) == _sha256(run / "model.safetensors")


@pytest.mark.timeout(900)
def test_killed_in_the_middle_of_a_rung_it_goes_on_to_the_same_model(primia: Primia) -> None:
    run = primia.folder / "broken"
    launcher = primia.start("train", *SEARCH, f"output_dir={run}")
    _wait(lambda: sum(e["event"] == "round_finished" for e in events(run)) >= 5)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.communicate()
    _wait(lambda: not processes_of(primia.folder), 60)
    assert not (run / "result.json").exists()
    resumed = primia("train", f"resume={run}", seconds=480)
    assert resumed.returncode == 0, resumed.stderr
    rounds = [e for e in events(run) if e["event"] == "round_finished"]
    assert 7 <= len(rounds) <= 4 + 2 + 2, "no round that was saved is trained again"
    assert weights_of_the_ordinary_run(primia, run) == _sha256(run / "model.safetensors")


def test_bad_searches_are_one_sentence(primia: Primia) -> None:
    for words, sentence in (
        (("search.population=1",), "search.population=1; expected 2 or more"),
        (("search.eta=1",), "search.eta=1"),
        (("search.space=null",), "search.space"),
        (("federation.rounds=1",), "makes rungs of"),
        (("aggregation.name=plain", "strategy.name=krum"), "expected a rule that needs"),
    ):
        done = primia("train", *SEARCH, *words)
        assert done.returncode == 2, done.stderr
        assert sentence in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (primia.folder / "outputs").exists()
