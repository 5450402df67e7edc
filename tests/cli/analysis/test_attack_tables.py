"""`primia attack poisoning` and `adversarial` on a small run, and a user's mistakes."""

import json
from pathlib import Path

import pytest

from primia_flwr.cli.main import run as primia
from tests.attacks.attacked_run_maker import make_run


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacked")
    fast = "training.local_epochs=1"
    return make_run(folder / "run", folder / "cache", fast, train=False)


def test_lies_and_answers_are_written_once_for_programs_once_for_people(
    attacked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["attacks=[none,backdoor]", "rules=[fedavg,bulyan,secure]", "sites=5", "rounds=1"]
    assert primia(["attack", "poisoning", f"run={attacked}", *words, "device=cpu"]) == 0
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (last["sites"], last["liars"], last["rounds"], last["synthetic"]) == (5, 1, 1, True)
    folder = attacked / "poisoning"
    assert {p.name for p in folder.iterdir()} == {
        f"poisoning.{kind}" for kind in ("json", "html", "png")
    }
    values = json.loads((folder / "poisoning.json").read_text())
    assert [(c["attack"], c["rule"]) for c in values["cells"]] == [
        (attack, rule) for attack in ("none", "backdoor") for rule in ("fedavg", "bulyan", "secure")
    ]
    assert values["boost"] == 5.0
    assert values["clip"] > 0
    by_name = {(c["attack"], c["rule"]): c for c in values["cells"]}
    assert "bulyan needs 4*1+3 updates" in by_name["none", "bulyan"]["reason"]
    assert -1 <= by_name["backdoor", "fedavg"]["figures"]["mcc"] <= 1
    # nobody lies and nothing is clipped: the two means differ by the fixed point alone
    none = [by_name["none", rule]["figures"]["accuracy"] for rule in ("fedavg", "secure")]
    assert none[0] == pytest.approx(none[1], abs=0.1)
    page = (folder / "poisoning.html").read_text()
    assert "back door" in page
    assert "<script" not in page


def test_accuracy_by_distance_is_written(
    attacked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["levels=[0,4]", "images=20", "steps=5", "restarts=1", "device=cpu"]
    assert primia(["attack", "adversarial", f"run={attacked}", *words]) == 0
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    as_is, changed = last["levels"]
    assert as_is["fgsm"] == as_is["pgd"] > 0
    assert changed["pgd"] <= changed["fgsm"] <= as_is["fgsm"]
    assert changed["pgd_at_least_as_strong"] is True
    names = {path.name for path in (attacked / "adversarial").iterdir()}
    assert names == {f"adversarial.{kind}" for kind in ("json", "html", "png")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["poisoning", "liars=4"], "liars=4 of sites=7; expected 1 or more, and fewer than half"),
        (["poisoning", "target=9"], "target=9; expected a class from 0 to 2"),
        (["poisoning", "patch=40"], "patch=40; expected at most 32"),
        (["poisoning", "rules=[krumm]"], "rules=krumm; expected one of"),
        (["poisoning", "rules=[]"], "rules=[]; expected each once"),
        (["poisoning", "attacks=[none,none]"], "expected each once"),
        (["poisoning", "boost=-1"], "boost=-1"),
        (["adversarial", "levels=[2,1]"], "expected rising grey levels"),
        (["adversarial", "levels=[0,300]"], "expected rising grey levels"),
        (["adversarial", "levels=[]"], "expected rising grey levels"),
        (["adversarial", "steps=0"], "steps=0"),
    ],
)
def test_mistakes_are_one_sentence(
    attacked: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *others = words
    assert primia(["attack", command, f"run={attacked}", *others, "device=cpu"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["poisoning", "adversarial"])
def test_without_a_run_there_is_nothing_to_attack(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert primia(["attack", command, f"run={tmp_path / 'none'}"]) == 2
    assert "run=" in capsys.readouterr().err
