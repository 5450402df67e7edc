"""`primia synthesise`, as a hospital types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.cli.command import call
from primia_flwr.cli.data.synthesise import COMMAND
from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.synthesis import adversarial
from tests.data.folder_maker import CLASSES, png_set, put

_NAMES = f"data.classes=[{','.join(CLASSES)}]"
_FEW = (
    "data.image_size=16", "privacy.steps=2", "privacy.expected_batch=4", "privacy.delta=1e-2",
    "generator.width=8", "generator.discriminator_width=8", "images=3", "device=cpu", "quiet=true",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    png_set(tmp_path / "scans", patients=4)


def type_in(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object], str]:
    code = call(COMMAND, ["data.root=scans", _NAMES, *_FEW, *words])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out else {}, err


def charged(ledger: str) -> int:
    with read_ledger(Path(ledger)) as found:
        return len(found.charges())


def test_images_are_written_and_paid_for_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = type_in(capsys, "output=out")
    assert (code, found["written"], found["charged"], found["units"]) == (0, 6, True, 8)
    counts = {name: len(list(Path("out", name).glob("*.png"))) for name in CLASSES}
    assert counts == dict.fromkeys(CLASSES, 3)  # equal, though some patients have two images
    card = json.loads(Path("out/synthesis.json").read_text())
    assert card["generator_sha256"] == found["generator_sha256"]
    assert card["ledger"]["entry"] == found["ledger"]["entry"]  # type: ignore[index]
    assert charged(".primia/private/privacy") == 1
    code, again, _ = type_in(capsys, "output=more", "counts=[1,5]")
    assert (code, again["written"], again["charged"]) == (0, 6, False)
    assert again["generator_sha256"] == found["generator_sha256"]
    assert charged(".primia/private/privacy") == 1
    code, told, _ = type_in(capsys, "output=other", "dry_run=true")
    assert (code, told["paid"]) == (0, True)
    assert type_in(capsys, "output=other", "dry_run=true", "seed=2")[0] == 1
    code, _, err = type_in(capsys, "output=other", "seed=2")
    assert code == 2
    assert "expected at most the site's ceiling 8" in err
    assert not Path("other").exists()


def test_a_dry_run_tells_the_price_and_pays_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = type_in(capsys, "output=out", "dry_run=true")
    assert code == 0
    assert (found["steps"], found["sampling_rate"], found["spent"]) == (2, 4 / 8, 0.0)
    assert not Path("out").exists()
    assert not Path(".primia/private").exists()


def test_the_sites_policy_decides_about_unit_delta_and_ceiling(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("site.yaml").write_text(
        "site: munich\nsuperlink: fl.example.org:9391\ndata_root: scans\ndata_layout: folder\n"
        "max_epsilon: 2.0\nprivacy_delta: 0.02\n"
    )
    code, _, err = type_in(capsys, "output=out", "site=site.yaml", "privacy.ceiling=100")
    assert code == 2
    assert "ceiling 2 at delta=0.02" in err
    asked = ("output=out", "site=site.yaml", "privacy.epsilon=1.5", "privacy.unit=image")
    code, found, _ = type_in(capsys, *asked)
    assert (code, found["unit"], found["delta"]) == (0, "patient", 0.02)
    assert charged("state/privacy") == 1


def test_a_delta_that_was_refused_is_not_the_ledgers_for_good(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = type_in(capsys, "output=out", "privacy.delta=0.5")
    assert (code, "expected delta < 1/8" in err) == (2, True)
    code, found, _ = type_in(capsys, "output=out", "privacy.delta=0.01")
    assert (code, found["delta"]) == (0, 0.01)


def test_a_command_that_is_stopped_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adversarial._Game, "discriminate", stopped)
    assert type_in(capsys, "output=out")[0] == 130
    assert not Path("out").exists()
    assert charged(".primia/private/privacy") == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["output="], "output is empty; expected a new folder"),
        (["output=scans"], "output=scans lies in data.root=scans"),
        (["output=o", "data.classes=[]"], "expected the names of the classes"),
        (["output=o", "data.image_size=24"], "expected 16 or 32 or 64"),
        (["output=o", "data.channels=3"], "expected 1: images are made in grey"),
        (["output=o", "counts=[1,2,3]"], "counts=[1, 2, 3] with 2 classes"),
        (["output=o", "counts=[1,-1]"], "counts=-1"),
        (["output=o", "counts=[0,0]"], "expected at least one image"),
        (["output=o", "site=a.yaml", "ledger=b"], "expected one of them"),
        (["output=o", "privacy.epsilon=0"], "privacy.epsilon=0"),
        (["output=o", "privacy.delta=0.5"], "expected delta < 1/8"),
        (["output=o", "generator.width=12"], "expected a multiple of 8"),
        (["output=o", "device=gpu"], "device=gpu; expected auto, cpu"),
        (["output=o", "data.task=multilabel"], "expected classification"),
        (["output=o", "federation.rounds=3"], "federation.rounds"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, err = type_in(capsys, *words)
    assert (code, found) == (2, {})
    assert sentence in " ".join(err.split())
    assert len(err.splitlines()) == 1
    assert not Path("o").exists()


def test_images_of_nobody_known_are_refused_by_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(12):
        put(tmp_path / "flat" / CLASSES[index % 2] / f"{index}.png", index)
    code, _, err = type_in(capsys, "data.root=flat", "output=o")
    assert code == 2
    assert "the patient of 12 image(s) is unknown" in err
