"""A clinic's day over real processes: images come, parties die and come back, nothing is lost."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from primia_flwr.processes.children import is_listening
from primia_flwr.provisioning.service import ServicePlan, provision_service
from primia_flwr.trials.service import UNLIMITED, RunningService, command_line, running_service
from tests.e2e.runner import Primia, called, last_json
from tests.e2e.test_encrypted_inference import (
    CLASSES,
    infer,
    infer_words,
    one_sentence,
    queries,
    wait_for,
    write_images,
    write_model,
    write_too_small_bounds,
)
from tests.faults.crashes import kill_leader


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


class Tables:
    """Reads the tables again and again while they are written: they must always be whole."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._over = threading.Event()
        self.torn: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def facts(self) -> dict[str, Any]:
        path = self._output / "predictions.json"
        facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return facts

    def count(self) -> int:
        return len(self.facts().get("predictions", []))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        table = self._output / "predictions.csv"
        while not self._over.wait(0.01):
            try:
                self.facts()
                if table.exists() and not table.read_text().endswith("\n"):
                    self.torn.append("csv")
            except ValueError as error:
                self.torn.append(str(error))


@contextmanager
def watching(
    service: RunningService, images: Path, output: Path, *options: str
) -> Iterator[tuple[subprocess.Popen[str], Tables]]:
    words = infer_words(service, images, output, "watch=true", "watch_settle=0.4", *options)
    words = [word for word in words if word != "quiet=true"]
    clinic = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tables = Tables(output)
    try:
        yield clinic, tables
    finally:
        tables.stop()
        clinic.kill()
        clinic.wait()


@contextmanager
def again(service: RunningService, model: Path, party: str, port: int) -> Iterator[None]:
    """Start a party that was killed a second time, at its port."""
    kit = service.clinic_kit.parent / f"kit-{party}"
    words = command_line("serve", party, f"kit={kit}", f"listen=127.0.0.1:{port}", "quiet=true")
    if party == "model-owner":
        words += [f"model={model}", f"store.folder={service.folder}", *UNLIMITED, "prefetch=3"]
        words += [f"log={kit / 'queries.jsonl'}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_listening("127.0.0.1", port))
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.system
def test_a_day_of_a_clinic(primia: Primia, model: Path, tmp_path: Path) -> None:
    ready = write_images(tmp_path / "ready", 7)
    pictures = [(ready / f"{i:02d}.png").read_bytes() for i in range(7)]
    inbox, output = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    (inbox / "00.png").write_bytes(pictures[0])
    with (
        running_service(model, options=(*UNLIMITED, "prefetch=3")) as service,
        watching(service, inbox, output, "prefetch=3") as (clinic, tables),
    ):
        wait_for(lambda: tables.count() == 1)  # what lies there at the start is done too
        # A file that grows is not touched before it is whole; a broken one is skipped.
        with (inbox / "01.png").open("wb") as growing:
            growing.write(pictures[1][:700])
            growing.flush()
            (inbox / "broken.png").write_bytes(pictures[1][:700])
            (inbox / "ward").mkdir()
            (inbox / "ward" / "02.png").write_bytes(pictures[2])
            growing.write(pictures[1][700:])
        wait_for(lambda: tables.count() == 3 and tables.facts()["skipped"])
        assert list(tables.facts()["skipped"]) == ["broken.png"]
        (inbox / "broken.png").write_bytes(pictures[3])  # it was copied again
        wait_for(lambda: tables.count() == 4 and not tables.facts()["skipped"])
        # The model owner dies and comes back; an image that comes meanwhile waits.
        kill_leader(service.model_owner)
        (inbox / "04.png").write_bytes(pictures[4])
        with again(service, model, "model-owner", service.model_owner_port):
            wait_for(lambda: tables.count() == 5)
            # The crypto provider dies: what randomness there is is used, and more made later.
            time.sleep(5)  # nothing outside shows when the prefetched randomness has come
            kill_leader(service.provider)
            (inbox / "05.png").write_bytes(pictures[5])
            wait_for(lambda: tables.count() == 6)
            with again(service, model, "crypto-provider", service.provider_port):
                wait_for(lambda: len(tables.facts()["sessions"]) == 3 or clinic.poll())
                (inbox / "06.png").write_bytes(pictures[6])
                wait_for(lambda: tables.count() == 7)
                clinic.send_signal(signal.SIGTERM)
                out, err = clinic.communicate(timeout=60)
                done = infer(service, ready, tmp_path / "batch")
        asked = queries(service)
    assert clinic.returncode == 0, err
    assert "Traceback" not in err
    result = last_json(out)
    assert (result["images"], result["skipped"], result["pending"]) == (7, 0, 0)
    assert result["sessions"] == 3
    assert not tables.torn
    assert asked >= 14  # seven each way, and what failed
    # The same results as in one call over all of them.
    assert done.returncode == 0, done.stderr
    batch = json.loads((tmp_path / "batch" / "predictions.json").read_text())["predictions"]
    watched = tables.facts()["predictions"]
    names = [row["file"] for row in watched]
    assert (names[0], sorted(names[1:3])) == ("00.png", ["01.png", "ward/02.png"])
    assert names[3:] == ["broken.png", "04.png", "05.png", "06.png"]
    for row in watched:
        name = {"broken.png": "03.png"}.get(row["file"], Path(row["file"]).name)
        other = next(found for found in batch if found["file"] == name)
        assert row["prediction"] == other["prediction"]
        assert row["scores"] == pytest.approx(other["scores"], abs=0.01)


@pytest.mark.system
def test_an_audited_watch_notes_what_is_outside_and_goes_on(primia: Primia, tmp_path: Path) -> None:
    small = write_too_small_bounds(write_model(tmp_path / "model"))
    ready = write_images(tmp_path / "ready", 1)
    inbox, output = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    # 12 bits: below 0.25. The first layer gives 0.005 for a grey image, 1.4 for a noisy one.
    options = (*UNLIMITED, "audit=true", "compare_bits=12")
    with (
        running_service(small, options=options) as service,
        watching(service, inbox, output, "audit=true") as (clinic, tables),
    ):
        Image.new("L", (48, 40), 128).save(inbox / "00.png")
        wait_for(lambda: tables.count() == 1)
        (inbox / "01.png").write_bytes((ready / "00.png").read_bytes())
        wait_for(lambda: tables.count() == 2)
        Image.new("L", (48, 40), 127).save(inbox / "02.png")
        wait_for(lambda: tables.count() == 3)
        clinic.send_signal(signal.SIGTERM)
        out, err = clinic.communicate(timeout=60)
        asked = queries(service)
    assert clinic.returncode == 1, err  # one image has no diagnosis
    assert asked == 3  # nothing was asked again
    result = last_json(out)
    counts = ("images", "outside", "skipped", "pending", "sessions")
    assert [result[name] for name in counts] == [3, 1, 0, 0, 1]
    assert result["ok"] is False
    assert err.count("no scores for") == 1
    assert "no scores for 01.png: the audit found a number" in " ".join(err.split())
    rows = list(csv.DictReader((output / "predictions.csv").open()))
    assert [(row["file"], row["audit"]) for row in rows] == [
        ("00.png", "passed"),
        ("01.png", "outside"),
        ("02.png", "passed"),
    ]
    assert [bool(row["prediction"]) for row in rows] == [True, False, True]
    assert [rows[1][f"p_{name}"] for name in CLASSES] == [""] * 3
    facts = tables.facts()
    assert (facts["audit"], facts["outside"], facts["complete"]) == (True, 1, True)
    assert [row["scores"] is None for row in facts["predictions"]] == [False, True, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["data.root="], "data.root is empty; expected the folder"),
        (["data.root={image}"], "expected the folder into which the images come"),
        ([], "cannot be reached"),
    ],
)
def test_a_watch_that_cannot_be_says_why(
    kit: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    images = write_images(tmp_path / "today", 1)
    filled = [option.format(image=images / "00.png") for option in options]
    fixed = ("server=localhost:1", f"data.root={images}", f"kit={kit}", f"output={tmp_path / 'o'}")
    done = called("infer", *fixed, "watch=true", *filled)
    assert words in one_sentence(done)
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = ServicePlan("trial", "localhost", "localhost", ["clinic"], loopback=True)
    return provision_service(plan, tmp_path_factory.mktemp("kits") / "service").kits["kit-clinic"]
