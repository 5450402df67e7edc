"""`primia attack membership` on a memorised run, a private one, and a user's mistakes."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from primia_flwr.attacks.membership import detection
from primia_flwr.cli.analysis.attack_membership import COMMAND, AttackMembershipConfig
from primia_flwr.cli.command import call
from primia_flwr.cli.main import run as primia
from primia_flwr.config.load import compose, parse
from tests.attacks.attacked_run_maker import PRIVATE, make_run


@pytest.fixture(autouse=True, scope="module")
def fewer_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "_RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def memorised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memorised")
    return make_run(folder / "run", folder / "cache")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("private")
    return make_run(folder / "run", folder / "cache", *PRIVATE, train=False)


@pytest.fixture(scope="module")
def printed(memorised: Path) -> str:
    """Return what the command prints for the memorised run, and leave its files."""
    stream = io.StringIO()
    with redirect_stdout(stream):
        words = ["attack", "membership", f"run={memorised}", "shadows=4", "device=cpu"]
        assert primia(words) == 0
    return stream.getvalue()


def test_a_run_that_memorised_is_found_out(memorised: Path, printed: str) -> None:
    line = json.loads(printed.strip().splitlines()[-1])
    assert "LiRA" in printed
    assert line["loss"]["auc"] > 0.9
    assert line["lira_offline"]["auc"] > 0.9
    assert line["synthetic"] is True
    folder = memorised / "membership"
    files = {path.name for path in folder.iterdir()}
    assert files == {"membership.json", "membership.csv", "membership.html", "shadows"}
    values = json.loads((folder / "membership.json").read_text())
    assert values["attacks"]["loss"]["image"]["auc"]["value"] == line["loss"]["auc"]
    assert values["members"]["images"] == line["members"]
    assert values["privacy"] is None
    assert any("No rate by patient at 1 % and 0.1 %" in note for note in values["notes"])
    with (folder / "membership.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == line["members"] + line["non_members"]
    assert sum(row["member"] == "1" for row in rows) == line["members"]
    assert all(0 <= float(row["lira_offline_p"]) <= 1 for row in rows)


def test_the_page_loads_nothing_and_its_figures_are_the_files(
    memorised: Path, printed: str
) -> None:
    page = (memorised / "membership" / "membership.html").read_text()
    values = json.loads((memorised / "membership" / "membership.json").read_text())
    assert f"{values['attacks']['loss']['image']['auc']['value']:.3f}" in page
    assert "Synthetic data." in page
    assert page.count("<svg ") == 2
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#)', page)


def test_a_hospital_attacks_the_others(memorised: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"run={memorised}", "site=site-1", "shadows=2", "device=cpu", "quiet=true"]
    assert call(COMMAND, words) == 0
    line = json.loads(capsys.readouterr().out)
    assert "lira_online" not in line
    assert line["output"].endswith("membership-site-1")
    notes = json.loads((Path(line["output"]) / "membership.json").read_text())["notes"]
    assert "hospital site-1" in notes[0]


def test_a_private_run_is_held_against_its_bound(
    private: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={private}", "shadows=4", "device=cpu", f"output={tmp_path / 'out'}"]
    assert call(COMMAND, words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "the run claims epsilon 4 at delta 0.001 for one patient" in out
    privacy = json.loads((tmp_path / "out" / "membership.json").read_text())["privacy"]
    assert (privacy["epsilon"], privacy["delta"], privacy["unit"]) == (4.0, 0.001, "patient")
    assert set(privacy["against_the_bound"]) == {"loss", "lira_offline", "lira_online"}
    assert "Against the run" in (tmp_path / "out" / "membership.html").read_text()


def test_a_dry_run_says_what_it_costs_and_writes_nothing(
    memorised: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(COMMAND, [f"run={memorised}", "dry_run=true", f"output={out}"]) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    shadows = line["shadows"]
    assert (shadows["models"], shadows["finished"]) == (8, 0)
    assert shadows["image_passes"] == pytest.approx(8 * 30 * shadows["mean_images"], rel=0.02)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run="], r"run=''; expected the output folder"),
        (["run=/nowhere"], r"run='/nowhere'; expected"),
        (["shadows=1"], r"shadows=1; expected a number of at least 2"),
        (["shadows=3"], r"shadows=3; expected at least 4"),
        (["variance=some"], r"variance=some; expected one of auto, pooled, per_image"),
        (["site=munich"], r"site=munich; expected one of at least two sites"),
        (["device=tpu"], r"device=tpu; expected auto, cpu"),
        (["output=RUN/run.json"], r"expected a folder, and it is a file"),
        (["data.rot=x"], r"unknown key"),
    ],
)
def test_mistakes_get_one_sentence_and_write_nothing(
    private: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(private.rglob("*"))
    given = [word.replace("RUN", str(private)) for word in words]
    assert call(COMMAND, [f"run={private}", *given]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert set(private.rglob("*")) == before


def test_conf_spells_the_dataclass_defaults() -> None:
    assert (
        parse(AttackMembershipConfig, compose("commands/analysis/attack_membership"))
        == AttackMembershipConfig()
    )
