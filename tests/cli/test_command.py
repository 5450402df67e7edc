"""The command line's common part: help, --cfg, one line of JSON, one sentence for a mistake."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from primia_flwr.cli.command import EXIT_MISTAKE, Command, call
from primia_flwr.cli.main import COMMANDS, run
from primia_flwr.errors import DataError


@dataclass
class Arguments:
    site: str = "site.yaml"
    quiet: bool = False


def command(result: dict[str, object] | None = None, error: Exception | None = None) -> Command:
    def body(arguments: Arguments) -> dict[str, object] | None:
        if error:
            raise error
        return result if result is not None else {"site": arguments.site}

    return Command(
        words=("site", "run"),
        summary="run it",
        examples=("primia site run site=kit/site.yaml",),
        config_name="commands/site/run",
        schema=Arguments,
        run=body,
        positional="site",
    )


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command(), ["site=a.yaml"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"site": "a.yaml"}


def test_on_a_terminal_the_last_line_is_short_unless_it_is_asked_for_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {"run": "a", "mcc": 0.123456, "sites": [1, 2], "by": {"x": 1}}
    assert call(command(result), []) == 0
    assert json.loads(capsys.readouterr().out) == result  # a pipe
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert call(command(result), []) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "a", "mcc": 0.123, "more": "json=true"}
    assert call(command(result), ["json=true"]) == 0
    assert json.loads(capsys.readouterr().out) == result
    assert call(command(result), ["json=yes"]) == EXIT_MISTAKE
    assert "json=yes; expected json=true or json=false" in capsys.readouterr().err


def test_a_bare_word_sets_the_positional_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command(), ["b.yaml"]) == 0
    assert json.loads(capsys.readouterr().out) == {"site": "b.yaml"}


def test_not_ok_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command({"ok": False}), []) == 1
    assert json.loads(capsys.readouterr().out) == {"ok": False}


def test_a_mistake_is_one_sentence_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command(error=DataError("data.root=x [0, 1]; expected\n a folder")), []) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: data.root=x [0, 1]; expected a folder\n"
    assert captured.out == ""


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        call(command(error=ZeroDivisionError()), [])


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command(error=KeyboardInterrupt()), []) == 130  # type: ignore[arg-type]
    assert "stopped by the user" in capsys.readouterr().err


def test_cfg_shows_the_composed_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command(), ["--cfg", "job", "quiet=true"]) == 0
    assert capsys.readouterr().out == "site: site.yaml\nquiet: true\n"


@pytest.mark.parametrize("words", list(COMMANDS))
def test_every_verb_teaches(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"primia {words}" in text
    assert "Examples" in text
    assert "Keys" in text


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    text = capsys.readouterr().out
    assert all(words in text for words in COMMANDS)


def test_an_unknown_verb_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "chek"]) == EXIT_MISTAKE
    assert "did you mean data check?" in capsys.readouterr().err
