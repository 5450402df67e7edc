"""`primia completion`: commands, keys, choices and paths at the Tab key, by Click's scripts."""

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from click import Command as ClickCommand
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
)

from primia_flwr.cli.command import Command
from primia_flwr.cli.help import choices_of, keys_of
from primia_flwr.config.checks import check_choice
from primia_flwr.errors import PrimiaError

_VARIABLE = "_PRIMIA_COMPLETE"
_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_FOLDERS = ("root", "output_dir", "resume", "run", "cache_dir", "kit", "output", "model")
_FILES = ("manifest", "site", "file", "space_file")


@dataclass
class _CompletionConfig:
    """The shell that the script is for."""

    shell: str = "bash"

    def __post_init__(self) -> None:
        check_choice("shell", self.shell, _SHELLS)


def _print_script(cfg: _CompletionConfig) -> None:
    """Print the script of a shell."""
    text = _of(cfg.shell, {}).source()
    # A key waits for its value: no blank after it.
    sys.stdout.write(text.replace("complete -o nosort", "complete -o nosort -o nospace"))


def answer(commands: Mapping[str, tuple[str, str]]) -> int:
    """Answer a shell that asks, by the environment, how a line goes on; the exit code.

    Parameters
    ----------
    commands : mapping
        The words of every command, with its module and one line of help.
    """
    shell, _, asked = os.environ.get(_VARIABLE, "").partition("_")
    if shell not in _SHELLS or asked != "complete":
        return 1
    print(_of(shell, commands).complete())
    return 0


def candidates(
    commands: Mapping[str, tuple[str, str]], words: list[str], begun: str
) -> list[CompletionItem]:
    """Return how a word may go on after others.

    Bash takes `=` for a word of its own; elsewhere a word is `key=value`.
    """
    if begun == "=" or words[-1:] == ["="]:
        key = words[-2] if words[-1:] == ["="] else words[-1]
        return _values(key, "" if begun == "=" else begun, "")
    command = _command(commands, words)
    if command is None:
        return _next_words(commands, words, begun)
    key, equals, value = begun.partition("=")
    if equals:
        return _values(key, value, f"{key}=")
    known = (f"{name}=" for name in keys_of(command))
    flags = ("--help", "--help=all", "--cfg") if begun.startswith("-") else ()
    return [CompletionItem(one) for one in (*known, *flags) if one.startswith(begun)]


def _of(shell: str, commands: Mapping[str, tuple[str, str]]) -> ShellComplete:
    """Return Click's script and protocol of a shell, with our candidates."""
    kind = type("_Complete", (_SHELLS[shell],), {"get_completions": _completions})
    found: ShellComplete = kind(ClickCommand("primia"), {"known": commands}, "primia", _VARIABLE)
    return found


def _completions(self: ShellComplete, args: list[str], incomplete: str) -> list[CompletionItem]:
    try:
        return candidates(self.ctx_args["known"], args, incomplete)
    except PrimiaError:
        return []


def _command(commands: Mapping[str, tuple[str, str]], words: list[str]) -> Command | None:
    """Return the command that the words name, once they name one and no longer one."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in commands:
            found = importlib.import_module(f"primia_flwr.cli.{commands[name][0]}").COMMAND
            return found if isinstance(found, Command) else None
    return None


def _next_words(commands: Iterable[str], words: list[str], begun: str) -> list[CompletionItem]:
    split = [name.split() for name in commands]
    fitting = [one for one in split if one[: len(words)] == words and len(one) > len(words)]
    following = dict.fromkeys(one[len(words)] for one in fitting)
    return [CompletionItem(word) for word in following if word.startswith(begun)]


def _values(key: str, begun: str, prefix: str) -> list[CompletionItem]:
    """Return the values of a key: choices of a group, or paths, which the shell completes."""
    last = key.rpartition(".")[2]
    names = choices_of(key.lstrip("+"))
    if names:
        return [CompletionItem(f"{prefix}{name}") for name in names if name.startswith(begun)]
    if last in ("dry_run", "quiet"):
        return [
            CompletionItem(f"{prefix}{one}")
            for one in ("true", "false")
            if one[: len(begun)] == begun
        ]
    if last in (*_FOLDERS, *_FILES):
        return [CompletionItem(begun, type="dir" if last in _FOLDERS else "file")]
    return []


COMMAND = Command(
    words=("completion",),
    summary="print a script that completes commands, keys and choices at the Tab key",
    examples=(
        'eval "$(primia completion bash)"     # in ~/.bashrc',
        'eval "$(primia completion zsh)"      # in ~/.zshrc, after compinit',
        "primia completion fish > ~/.config/fish/completions/primia.fish",
    ),
    config_name="commands/shell/completion",
    schema=_CompletionConfig,
    run=_print_script,
    positional="shell",
)
