"""What a person types wrongly: one sentence, exit code 2, no text of a library, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from primia_bench.cli.mistakes import LIBRARY_TEXT, MISTAKES, prepare

from primia_flwr.cli.main import run

_Arguments = tuple[str, ...]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    prepare(tmp_path)


def one_sentence(text: str) -> str:
    """Return the only line of an answer, once it holds nothing of a library."""
    lines = text.splitlines()
    assert [line[:6] for line in lines] == ["error:"], text
    assert not [word for word in LIBRARY_TEXT if word in lines[0].casefold()], text
    return lines[0]


@pytest.mark.parametrize(("arguments", "fragment"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_one_sentence(
    arguments: _Arguments, fragment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(list(arguments)) == 2
    captured = capsys.readouterr()
    assert fragment in one_sentence(captured.err)
    assert captured.out == ""
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    "arguments",
    [("train", "rounds=5"), ("train", "data.root=a (b)"), ("train", "-m", "seed=1", "rounds=1,2")],
)
def test_so_it_is_in_a_process_of_its_own(arguments: _Arguments) -> None:
    command = [sys.executable, "-m", "primia_flwr.cli.main", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 2
    assert one_sentence(answer.stderr)
    assert answer.stdout == ""


def test_it_is_found_before_anything_large_is_imported() -> None:
    program = (
        "import sys; from primia_flwr.cli.main import run; "
        "codes = {run(['train', *words]) for words in (['rounds=5'], ['data.root=nowhere'], "
        "['-m', 'sweep.trials=5'], ['model=resnet19'], ['seed=x'])}; "
        "large = {'torch', 'ray', 'flwr', 'optuna', 'sklearn', 'scipy'}; "
        "print(codes, large & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout == "{2} set()\n"


def test_there_are_many() -> None:
    assert len({arguments for arguments, _ in MISTAKES}) == len(MISTAKES) >= 80
