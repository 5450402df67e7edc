"""The encrypted-inference service as its users meet it: processes, kits, files, faults."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.activation_bounds import ActivationBounds
from primia_flwr.models.card import ModelCard, weights_digest
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import save_model, write_bounds
from primia_flwr.processes.children import Child, Children, free_port, is_listening, wait_until
from primia_flwr.provisioning.service import ServicePlan, provision_service
from primia_flwr.trials.service import UNLIMITED, RunningService, command_line, running_service
from tests.e2e.runner import InProcess, Primia, called, last_json
from tests.faults.crashes import kill_leader

CLASSES = ("bacterial", "normal", "viral")


def write_model(
    folder: Path, *, name: str = "simpleconv", norm: str = "batch", bias: float = 0.0
) -> Path:
    cfg = ModelConfig(name=name, norm=norm)
    card = ModelCard(
        model=cfg,
        classes=CLASSES,
        channels=1,
        image_size=32,
        resize="squash",
        mean=(0.5,),
        std=(0.25,),
        config_hash="0" * 16,
        round=1,
        synthetic=True,
    )
    model = build_model(cfg, outputs=3, channels=1, seed=0)
    if bias:
        torch.nn.init.constant_(model.get_parameter("classifier.bias"), bias)
    save_model(folder, model, card)
    return folder


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        pixels = random.integers(0, 256, (40, 48), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "today", 3)


def infer_arguments(
    service: RunningService, images: Path, output: Path, *options: str
) -> list[str]:
    return [
        "infer",
        f"server=localhost:{service.model_owner_port}",
        f"data.root={images}",
        f"kit={service.clinic_kit}",
        f"output={output}",
        f"store.folder={service.folder}",
        "quiet=true",
        *options,
    ]


def infer_words(service: RunningService, images: Path, output: Path, *options: str) -> list[str]:
    return command_line(*infer_arguments(service, images, output, *options))


def infer(
    service: RunningService, images: Path, output: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    return called(*infer_arguments(service, images, output, *options))


def queries(service: RunningService) -> int:
    file = service.clinic_kit.parent / "kit-model-owner" / "queries.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def wait_for(what: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout.strip()
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_the_trial_agrees_with_the_plain_model_and_leaves_nothing(
    primia: Primia, model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    output = primia.folder / "out"
    done = primia("inference", "trial", f"model={model}", f"data.root={images}", f"output={output}")
    assert done.returncode == 0, done.stderr
    result = last_json(done.stdout)
    assert result["images"] == 3
    assert result["agreement"] == 1.0
    assert result["rounds"] == 26  # 12 comparison steps
    assert result["largest_logit_error"] < 0.02
    told = ("calibrated", "audit", "implausible", "ok")
    assert [result[name] for name in told] == [0, False, 0, True]
    assert result["compare_bits"] == 64  # it is not calibrated, and one is told so
    assert "the model is NOT calibrated" in " ".join(done.stderr.split())
    rows = list(csv.DictReader((output / "predictions.csv").open()))
    assert [row["file"] for row in rows] == ["00.png", "01.png", "02.png"]
    for row in rows:
        probabilities = [float(row[f"p_{name}"]) for name in CLASSES]
        assert sum(probabilities) == pytest.approx(1)
        assert row["prediction"] == CLASSES[int(np.argmax(probabilities))]
    facts = json.loads((output / "predictions.json").read_text())
    assert facts["complete"] is True
    assert facts["predictions"][0]["scores"] != facts["predictions"][1]["scores"]
    assert not list(scratch.iterdir())


def write_too_small_bounds(model: Path) -> Path:
    """Bounds as if measured on something much too dark: they allow the smallest rings."""
    bounds = ActivationBounds(1, 4, ("relu",) * 12, (1e-4,) * 12, (8,) * 12)
    write_bounds(model, bounds, weights=weights_digest(model))
    return model


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[RunningService]:
    """Run a service that no test ends."""
    with running_service(model, options=("prefetch=2", *UNLIMITED)) as service:
        yield service


@contextmanager
def beside(
    service: RunningService, folder: Path, model: Path, *options: str
) -> Iterator[RunningService]:
    """Run another model owner, with kits and records of its own, and the provider of `service`."""
    kits = shutil.copytree(service.clinic_kit.parent, folder / "kits")
    for log in kits.rglob("queries.jsonl*"):
        log.unlink()
    owner, port = kits / "kit-model-owner", free_port()
    words = command_line("serve", "model-owner", f"kit={owner}", f"listen=127.0.0.1:{port}")
    words += [f"model={model}", f"store.folder={folder}", f"log={owner / 'queries.jsonl'}"]
    with Children() as children:
        known = {"environment": os.environ, "folder": Path.cwd()}
        log = folder / "model-owner.log"
        child = children.add(Child("model-owner", [*words, *options], log_file=log, **known))
        start = f"the start of the {child.name}"
        wait_until(lambda: is_listening("127.0.0.1", port), what=start, timeout=120, child=child)
        yield replace(
            service,
            folder=folder,
            clinic_kit=kits / service.clinic_kit.name,
            model_owner_port=port,
            model_owner=child,
        )


@pytest.mark.system
def test_an_audit_keeps_back_what_left_its_ring_and_needs_the_servers_leave(
    model: Path, served: RunningService, images: Path, tmp_path: Path
) -> None:
    done = infer(served, images, tmp_path / "a", "audit=true")
    assert "this server takes part in no audit" in one_sentence(done)
    assert not (tmp_path / "a").exists()
    done = infer(served, images, tmp_path / "a", "audit=true", "protocol=crypten")
    assert "audit=true with protocol=crypten" in one_sentence(done)
    with beside(served, tmp_path / "audited", model, "audit=true") as service:
        done = infer(service, images, tmp_path / "within", "audit=true")
        assert done.returncode == 0, done.stderr
        assert last_json(done.stdout)["outside"] == 0
        rows = list(csv.DictReader((tmp_path / "within" / "predictions.csv").open()))
        assert [row["audit"] for row in rows] == ["passed"] * 3
        done = infer(service, images, tmp_path / "off")
        rows = list(csv.DictReader((tmp_path / "off" / "predictions.csv").open()))
        assert [row["audit"] for row in rows] == ["off"] * 3
    dark = write_too_small_bounds(write_model(tmp_path / "dark"))
    with beside(served, tmp_path / "too-dark", dark, "audit=true", "compare_bits=8") as service:
        done = infer(service, images, tmp_path / "outside", "audit=true", "quiet=false")
    assert done.returncode == 1, done.stderr
    assert last_json(done.stdout)["images"] == last_json(done.stdout)["outside"] == 3
    assert "no scores for 01.png: the audit found a number" in done.stderr
    rows = list(csv.DictReader((tmp_path / "outside" / "predictions.csv").open()))
    for row in rows:
        assert row["audit"] == "outside"
        assert [row["prediction"], *(row[f"p_{name}"] for name in CLASSES)] == [""] * 4
    facts = json.loads((tmp_path / "outside" / "predictions.json").read_text())
    assert facts["complete"] is True
    assert facts["outside"] == 3
    assert [row["scores"] for row in facts["predictions"]] == [None] * 3


def test_scores_that_cannot_be_right_are_no_diagnosis_without_any_audit(
    served: RunningService, images: Path, tmp_path: Path
) -> None:
    absurd = write_model(tmp_path / "model", bias=3e5)
    output = tmp_path / "out"
    with beside(served, tmp_path, absurd) as service:
        done = infer(service, images, output, "quiet=false", "batch=2")
        asked = queries(service)
    assert done.returncode == 1, done.stderr
    assert asked == 2  # a second query would tell the model owner
    result = last_json(done.stdout)
    counts = ("images", "implausible", "outside", "calibrated", "audit", "ok")
    assert [result[name] for name in counts] == [3, 3, 0, 0, False, False]
    told = " ".join(done.stderr.split())
    assert "no diagnosis for 01.png: its scores are beyond 262144" in told
    assert "the model is NOT calibrated" in told
    assert "no comparison was audited" in told
    for row in csv.DictReader((output / "predictions.csv").open()):
        assert [row["prediction"], *(row[f"p_{name}"] for name in CLASSES)] == [""] * 4
        assert (row["plausible"], row["audit"], row["calibrated"]) == ("no", "off", "0")
    facts = json.loads((output / "predictions.json").read_text())
    assert (facts["complete"], facts["implausible"]) == (True, 3)
    assert [(row["plausible"], row["scores"]) for row in facts["predictions"]] == [
        (False, None)
    ] * 3


def test_faults_of_the_clinic_and_of_strangers(
    primia: Primia, model: Path, served: RunningService, images: Path, tmp_path: Path
) -> None:
    other = ServicePlan("trial", "localhost", "localhost", ["clinic"], loopback=True)
    stranger_kit = provision_service(other, tmp_path / "other").kits["kit-clinic"]
    with beside(served, tmp_path, model, "limit=5") as service:
        # A stranger that says nothing, and one that does not speak TLS, hold up nobody.
        silent = socket.create_connection(("127.0.0.1", service.model_owner_port))
        with socket.create_connection(("127.0.0.1", service.model_owner_port)) as loud:
            loud.sendall(b"GET / HTTP/1.0\r\n\r\n")
        # Another service's certificate, the same names.
        done = infer(service, images, tmp_path / "a", f"kit={stranger_kit}")
        assert "cannot be reached" in one_sentence(done)
        # The kit of another party.
        owner = service.clinic_kit.parent / "kit-model-owner"
        done = infer(service, images, tmp_path / "a", f"kit={owner}")
        assert "expected the kit of a data-owner" in one_sentence(done)
        # No image at all; a file that is none among images is skipped and named.
        (tmp_path / "empty").mkdir()
        done = infer(service, tmp_path / "empty", tmp_path / "a")
        assert "expected an image or a folder with images" in one_sentence(done)
        (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
        done = infer(service, images, tmp_path / "b", "batch=2")
        assert done.returncode == 1, done.stderr
        assert last_json(done.stdout)["images"] == 3
        assert last_json(done.stdout)["skipped"] == 1
        # Two batches of two were counted: one image is left of the limit of five.
        done = infer(service, images, tmp_path / "c")
        assert "asks for 3 images and has 1 left of limit=5" in one_sentence(done)
        # Another protocol than the server's.
        done = infer(service, images, tmp_path / "c", "protocol=crypten")
        assert "this server offers fss" in one_sentence(done)
        silent.close()
    assert not (tmp_path / "c" / "predictions.csv").exists()


@pytest.mark.system
def test_parties_that_die(primia: Primia, model: Path, tmp_path: Path) -> None:
    many = write_images(tmp_path / "many", 60)
    with running_service(model, options=("prefetch=2", *UNLIMITED)) as service:
        # The clinic dies: the service goes on.
        words = infer_words(service, many, tmp_path / "a", "prefetch=2")
        clinic = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: queries(service) >= 2)
        clinic.kill()
        clinic.wait()
        one = write_images(tmp_path / "one", 1)
        assert infer(service, one, tmp_path / "b").returncode == 0
        # The crypto provider dies: one sentence, and what was done is kept.
        before = queries(service)
        words = infer_words(service, many, tmp_path / "c", "prefetch=2")
        clinic = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: queries(service) >= before + 3)
        kill_leader(service.provider)
        out, err = clinic.communicate(timeout=90)
        done = subprocess.CompletedProcess(words, clinic.returncode, out, err)
        sentence = one_sentence(done)
        assert "of 60 images are done" in sentence
        kept = json.loads((tmp_path / "c" / "predictions.json").read_text())
        assert kept["complete"] is False
        assert 1 <= kept["images"] < 60
        # Nobody to deal: one sentence again, at once.
        done = infer(service, one, tmp_path / "d")
        assert "crypto-provider" in one_sentence(done)


@pytest.mark.system
def test_a_model_owner_that_dies_is_named(
    primia: Primia, model: Path, served: RunningService, tmp_path: Path
) -> None:
    many = write_images(tmp_path / "many", 300)
    with beside(served, tmp_path, model, "prefetch=2", *UNLIMITED) as service:
        # First Ctrl-C at the clinic: what is done by then is kept.
        stopped = tmp_path / "stopped"
        words = infer_words(service, many, stopped, "prefetch=2")
        clinic = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: queries(service) >= 3)
        clinic.send_signal(signal.SIGINT)
        assert clinic.wait(60) == 130
        kept = json.loads((stopped / "predictions.json").read_text())
        assert kept["complete"] is False
        assert 1 <= kept["images"] < 300
        before = queries(service)
        words = infer_words(service, many, tmp_path / "a", "prefetch=2")
        clinic = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: queries(service) >= before + 3)
        kill_leader(service.model_owner)
        out, err = clinic.communicate(timeout=90)
        sentence = one_sentence(subprocess.CompletedProcess(words, clinic.returncode, out, err))
        assert "model-owner" in sentence


def rows_of(output: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((output / "predictions.json").read_text())[
        "predictions"
    ]
    return rows


def test_a_call_that_was_killed_goes_on_with_the_rest(
    served: RunningService, tmp_path: Path
) -> None:
    count, output = 16, tmp_path / "out"
    many = write_images(tmp_path / "many", count)
    start = queries(served)
    words = infer_words(served, many, output, "prefetch=2")
    clinic = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: (output / "predictions.json").exists() and len(rows_of(output)) >= 3)
    clinic.kill()
    clinic.wait()
    before, asked = rows_of(output), queries(served)
    assert 3 <= len(before) < count
    done = infer(served, many, output)  # not by chance: it must be said
    assert f"resume={output} goes on with it" in one_sentence(done)
    words = [word for word in infer_arguments(served, many, output) if "output=" not in word]
    again = [*words, f"resume={output}"]
    done = called(*again)
    assert done.returncode == 0, done.stderr
    rows, facts = rows_of(output), json.loads((output / "predictions.json").read_text())
    assert rows[: len(before)] == before  # kept, to the last digit
    assert [row["file"] for row in rows] == [f"{number:02d}.png" for number in range(count)]
    assert (facts["complete"], facts["images"], len(facts["sessions"])) == (True, count, 2)
    assert len(list(csv.DictReader((output / "predictions.csv").open()))) == count
    # Each image was asked about once, but one that was on its way when the clinic was killed.
    assert queries(served) - asked == count - len(before)
    assert asked - start - len(before) <= 1
    # All is done: nobody is asked.
    done = called(*again)
    assert last_json(done.stdout)["images"] == count
    assert queries(served) - asked == count - len(before)
    # An image in the place of one that has a result.
    (many / "00.png").write_bytes((many / "01.png").read_bytes())
    done = called(*again)
    assert "00.png is not the file any more" in one_sentence(done)
    assert rows_of(output) == rows


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["model="], "model is empty"),
        (["model=nowhere"], "cannot be read"),
        (["model={group}", "kit={kit}"], "train with model.norm=none"),
        (["model={bounded}", "kit={kit}", "compare_bits=12"], "compare_bits=12; expected at least"),
        (["model={old}", "kit={kit}"], "activation-bounds.json is of an earlier version"),
        (["model={model}", "kit={kit}", "audit=true", "compare_bits=64"], "expected at most 47"),
        (
            ["model={model}", "kit={kit}", "limit=1000"],
            "limit=1000: 70 answers read the last layer",
        ),
        (["model={model}", "kit={kit}", "life_limit=70"], "or accept_extraction=true, which says"),
        (["model={model}", "kit={kit}", "max_memory=0.01"], "not hold one session with 1 image"),
        (
            ["model={model}", "kit={kit}", "max_memory=0.6", "max_batch=16"],
            "e.g. max_batch=1",
        ),
        (["model={model}", "kit={kit}", "max_memory=999999"], "this machine has"),
        (["model={model}", "kit={clinic}"], "expected the kit of a model-owner"),
        (["model={model}", "kit=."], "cannot be read"),
    ],
)
def test_a_model_owner_that_cannot_serve_says_why(
    primia: Primia, model: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    plan = ServicePlan("trial", "localhost", "localhost", ["clinic"], loopback=True)
    kits = provision_service(plan, tmp_path / "service").kits
    group = write_model(tmp_path / "group", norm="group")
    bounded, old = write_model(tmp_path / "bounded"), write_model(tmp_path / "old")
    bounds = ActivationBounds(3, 4, ("relu",) * 12, (1000.0,) * 12, (28,) * 12)
    write_bounds(bounded, bounds, weights=weights_digest(bounded))
    (old / "activation-bounds.json").write_text(json.dumps({"largest": [1.0] * 12, "images": 3}))
    folders = {"model": model, "group": group, "bounded": bounded, "old": old}
    filled = [
        option.format(kit=kits["kit-model-owner"], clinic=kits["kit-clinic"], **folders)
        for option in options
    ]
    run = primia if options == ["model="] else InProcess(primia.folder)  # the first one for all
    done = run("serve", "model-owner", *filled)
    assert words in " ".join(one_sentence(done).split())


@pytest.mark.system
def test_calibration_says_how_many_bits_a_model_needs(tmp_path: Path, images: Path) -> None:
    model = write_model(tmp_path / "model")
    before = json.loads((model / "model.json").read_text())
    done = called("inference", "calibrate", f"model={model}", f"data.root={images}", "quiet=true")
    assert done.returncode == 0, done.stderr
    result = last_json(done.stdout)
    assert result["output"] == str(model / "model.json")
    card = json.loads((model / "model.json").read_text())
    values = card.pop("activation_bounds")
    assert card == before
    assert result["images"] == values["images"] == 3
    assert result["agreement"] == 1.0
    assert result["largest_logit_error"] == values["precision"]["largest_difference"] < 0.01
    assert len(values["largest"]) == len(values["layers"]) == 12
    assert result["compare_bits"] == max(values["bits"])
    # bound 2^13 units, 4 spare bits, the sign; a difference takes one bit more.
    largest = max(values["largest"])
    assert result["compare_bits"] in (
        int(np.floor(np.log2(largest * 2**17))) + 2,
        int(np.floor(np.log2(largest * 2**17))) + 3,
    )
