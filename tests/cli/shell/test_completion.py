"""What the Tab key offers: commands, keys, choices, paths; in a real bash."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from primia_flwr.cli.main import COMMANDS, run
from primia_flwr.cli.shell.completion import candidates


def offered(words: list[str], begun: str) -> list[str]:
    return [item.value for item in candidates(COMMANDS, words, begun)]


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ([], "tr", ["train"]),
        (["data"], "", ["check", "fingerprint", "partition", "deidentify"]),
        (["data", "chek"], "", []),
        (["train"], "federation.ro", ["federation.rounds=", "federation.round_timeout="]),
        (["train"], "--h", ["--help", "--help=all"]),
        (
            ["train"],
            "aggregation=",
            [
                f"aggregation={name}"
                for name in ("asynchronous", "buffered", "plain", "relay", "secure")
            ],
        ),
        (["train", "aggregation"], "=", ["asynchronous", "buffered", "plain", "relay", "secure"]),
        (["train", "aggregation", "="], "se", ["secure"]),
        (["train"], "quiet=t", ["quiet=true"]),
        (["evaluate"], "sal", ["saliency="]),
    ],
)
def test_what_is_offered(words: list[str], begun: str, expected: list[str]) -> None:
    assert offered(words, begun) == expected


def test_folders_and_files_are_left_to_the_shell() -> None:
    assert [item.type for item in candidates(COMMANDS, ["train", "data.root", "="], "a")] == ["dir"]
    assert [item.type for item in candidates(COMMANDS, ["train"], "data.manifest=a")] == ["file"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_each_shell_has_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"_PRIMIA_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 2
    assert "shell=tcsh; expected one of bash, zsh, fish" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / "primia"
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m primia_flwr.cli.main "$@"\n'
    )
    program.chmod(0o700)
    script = f"""PATH={shlex.quote(str(tmp_path))}:$PATH; eval "$(primia completion bash)"
COMP_WORDS=(primia train strategy = fedad); COMP_CWORD=4; _primia_completion primia
printf '%s\\n' "${{COMPREPLY[@]}}" """
    answer = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "fedadam" in answer.stdout.split()
    assert answer.stderr == ""
