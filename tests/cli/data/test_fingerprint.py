"""`primia data fingerprint`, as a hospital types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.cli.command import call
from primia_flwr.cli.data.fingerprint import COMMAND
from tests.data.layouts.test_msd import decathlon


def type_in(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = call(COMMAND, [*words, "quiet=true"])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_folder_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    decathlon(tmp_path)  # 6 volumes of 10 x 12 x 6 voxels; one voxel is labelled, the top is air
    code, out, err = type_in(capsys, "data.root=in", "data.volumes.levels=[0,4095]")
    found = json.loads(out)
    assert code == 0
    assert found["cases"] == 6
    assert found["labelled_voxels"] == {"background": 6 * 719, "liver": 3, "tumour": 3}
    assert [found["voxels"][axis]["p50"] for axis in "zyx"] == [8, 16, 8]  # 5, 12, 10 to eighths
    assert "suggested data.volumes.window" in err
    assert found["suggested"]["patch"].keys() == {"z", "y", "x"}
    code, _, _ = type_in(
        capsys, "data.root=in", "data.volumes.levels=[0,4095]", "output=found.json"
    )
    assert code == 0
    assert json.loads((tmp_path / "found.json").read_text()) == found
    # Off in this command, it would have nothing to do.
    again = type_in(capsys, "data.root=in", "data.volumes.levels=[0,4095]",
                    "data.volumes.fingerprint=false")  # fmt: skip
    assert again[:2] == (0, out)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("data.root=nowhere", "expected an existing folder"),
        (
            "output=nowhere/found.json",
            "expected a file that ends in .json, in a folder that exists",
        ),
        ("output=.", "expected a file that ends in .json, in a folder that exists"),
        ("output=found.txt", "output='found.txt'; expected a file that ends in .json"),
        ("output=folder.json", "output='folder.json'; expected a file that ends in .json"),
        ("data.layout=folder", "expected data.layout=msd"),
        ("data.volumes.levels=[1]", "data.volumes.levels has 1 entries"),
        ("data.volumes.levels=[2,1]", "expected a number above 2.0"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    decathlon(tmp_path)
    (tmp_path / "folder.json").mkdir()
    code, out, err = type_in(capsys, "data.root=in", word)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
