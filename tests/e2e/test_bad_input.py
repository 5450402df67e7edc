"""A user's mistakes: one sentence, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.cli.main import run

FOLDER = ("data=folder", "data.image_size=32", "dry_run=true")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must be refused; return its one sentence."""
    assert run(list(arguments)) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, captured.err
    assert not Path("outputs").exists()
    return lines[0]


def image_folder(root: Path, classes: tuple[str, ...] = ("a", "b"), count: int = 12) -> Path:
    rng = np.random.default_rng(1)
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (40, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{name}{index}.png")
    return root


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["train", "foo=1"], ["unknown key foo", "expected one of name, seed"]),
        (["train", "data.foo=1"], ["unknown key data.foo"]),
        (["train", "seed=abc"], ["seed", "abc"]),
        (["train", "data.image_size=7"], ["data.image_size=7", "16", "e.g. 64"]),
        (
            ["train", "model=scattering", "data.image_size=16", "dry_run=true"],
            ["data.image_size=16 with model.name=scattering", "expected 32"],
        ),
        (["train", "model=resnet19"], ["model=resnet19", "did you mean resnet18"]),
        (["train", "model.name=resnet19"], ["model.name=resnet19", "did you mean resnet18"]),
        (["train", "strategy=fedagv"], ["strategy=fedagv", "did you mean fedavg"]),
        (
            ["train", "federation.min_sites=4"],
            ["federation.min_sites=4", "expected 1 to 3", "aggregation=plain"],
        ),
        (["train", "strategy=krum"], ["strategy.name=krum", "aggregation=plain"]),
        (
            ["train", "strategy=secagg"],
            ["earlier version", "aggregation=secure"],
        ),
        (["train", "strategy.name=fedprox"], ["training.proximal_mu=0.0", "0.01"]),
        (["train", "experiment=nope"], ["experiment=nope", "demo, multilabel, pneumonia"]),
        (["train", "resume=nowhere"], ["resume=nowhere", "config.yaml"]),
        (["train", "--fast"], ["--fast", "--help"]),
        (["train", "fast"], ["'fast'", "key=value"]),
        (["trian"], ["trian", "did you mean train"]),
        (["train", *FOLDER], ["data.root"]),
        (["train", *FOLDER, "data.root=missing"], ["missing", "data.root"]),
        (["evaluate", "run=nowhere", "data.root=x"], ["nowhere"]),
        (["provision"], ["sites"]),
        (["site", "check", "site=nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_configuration(
    arguments: list[str], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = mistake(capsys, *arguments)
    for fragment in fragments:
        assert fragment in sentence


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in mistake(capsys, "train", *FOLDER, "data.root=empty")


def test_one_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_folder(tmp_path / "one", classes=("only",))
    assert "two" in mistake(capsys, "train", *FOLDER, "data.root=one")


@pytest.mark.parametrize("name", ["cut.jpg", "text.png", "nothing.dcm"])
def test_unreadable_image_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(tmp_path / "images")
    noise = np.random.default_rng(2).integers(0, 256, (64, 64), dtype=np.uint8)
    if name == "cut.jpg":
        whole = tmp_path / "whole.jpg"
        Image.fromarray(noise).save(whole)
        (root / "a" / name).write_bytes(whole.read_bytes()[:700])
    elif name == "text.png":
        (root / "a" / name).write_text("no picture")
    else:
        (root / "a" / name).write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 50)
    sentence = mistake(capsys, "train", *FOLDER, "data.root=images")
    assert name in sentence
    assert "data.skip_unreadable=true" in sentence
    skip = ["train", *FOLDER, "data.root=images", "data.skip_unreadable=true"]
    assert run(skip) == 0


def test_deep_and_cmyk_images_are_read(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images")
    deep = np.random.default_rng(3).integers(0, 2**16, (40, 40), dtype=np.uint16)
    Image.fromarray(deep).save(root / "a" / "deep.png")
    Image.new("CMYK", (40, 40), (10, 20, 30, 40)).save(root / "b" / "print.jpg")
    assert run(["train", *FOLDER, "data.root=images"]) == 0


def test_patient_at_two_sites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = image_folder(tmp_path / "images")
    rows = ["path,label,patient,site"]
    for path in sorted(root.rglob("*.png")):
        index = int(path.stem[1:])
        patient = "shared" if path.parent.name == "a" and index in (0, 1) else path.stem
        rows.append(f"{path.relative_to(root)},{path.parent.name},{patient},site-{index % 2 + 1}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    sentence = mistake(
        capsys,
        *("train", "data=manifest", "data.root=images", "data.manifest=list.csv"),
        *("data.image_size=32", "data.partition.kind=manifest", "dry_run=true"),
        *("federation.sites=[site-1,site-2]", "aggregation=plain"),
    )
    assert "shared" in sentence
    assert "site" in sentence


def test_a_mistake_in_the_data_is_told_before_pytorch_and_leaves_nothing(tmp_path: Path) -> None:
    image_folder(tmp_path / "one", classes=("only",))
    program = (
        "import sys; from primia_flwr.cli.main import run; "
        "code = run(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    )
    words = ["train", "data=folder", "data.root=one"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["2", "False"]
    assert "found 1 class(es) ['only']" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"one"}


def test_a_run_that_never_began_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image_folder(tmp_path / "images") / "a" / "text.png").write_text("no picture")
    words = ("data=folder", "data.image_size=32", "data.root=images", "tracking=disabled")
    assert "text.png" in mistake(capsys, "train", *words)
    (tmp_path / "mine").mkdir()
    assert "text.png" in mistake(capsys, "train", *words, "output_dir=mine/run")
    assert not list((tmp_path / "mine").iterdir())
    (tmp_path / "linked").symlink_to(tmp_path / "mine")
    assert "text.png" in mistake(capsys, "train", *words, "output_dir=linked")
    assert (tmp_path / "linked").is_symlink()  # what the user made stays, as it was
    assert not list((tmp_path / "mine").iterdir())
