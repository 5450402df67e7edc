"""What every command of the command line has in common.

A command is one entry of `conf/` with a dataclass for it and a function. The arguments are Hydra
overrides; `--help` teaches, `--cfg job` prints the composed configuration, a user's mistake
is one sentence on standard error and exit code 2, and the last line of standard output is
one JSON object where there is a result: a short one on a terminal, unless `json=true` is given.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from primia_flwr.config.load import compose, parse, to_yaml
from primia_flwr.config.typed import is_key, typed
from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.storage.printable import printable

EXIT_MISTAKE = 2
_EXIT_INTERRUPTED = 130
_LONGEST_SENTENCE = 4000
_FEW = 8


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    `words` are what the user types, e.g. `("data", "check")`. `positional` names the key that
    a bare word sets, e.g. `primia site approve <hash>`. With `groups` a key may choose a file of
    `conf/`, e.g. `data=folder`. `most_used`: the keys that a short help shows; none: all.
    """

    words: tuple[str, ...]
    summary: str
    examples: tuple[str, ...]
    config_name: str
    schema: type[Any]
    run: Callable[[Any], dict[str, Any] | None]
    positional: str = ""
    groups: bool = False
    most_used: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the words as typed."""
        return " ".join(self.words)

    def configured(self, overrides: Sequence[str] = ()) -> Any:
        """Return its configuration as an instance of `schema`.

        Raises
        ------
        ConfigError
            If an override is not understood, or a value is not as expected.
        """
        groups = self.groups or "/" not in self.config_name
        words = typed(overrides, self.schema, groups=groups)
        return parse(self.schema, compose(self.config_name, words, groups=self.groups))

    def of_words(self, words: Sequence[str]) -> Any:
        """Return its configuration from words as typed; a bare one sets `positional`.

        Raises
        ------
        PrimiaError
            As `configured`, or if a bare word means nothing here.
        """
        return self.configured([_as_override(self, word) for word in words])


def call(command: Command, arguments: Sequence[str]) -> int:
    """Run a command with the user's arguments and return the exit code."""
    asked = [word for word in arguments if word.startswith("--help") or word == "-h"]
    if asked:
        from primia_flwr.cli.help import print_help

        print_help(command, whole="--help=all" in asked)
        return 0
    try:
        arguments, whole = with_json(arguments)
        words, show = _split_flags(command, arguments)
        config = command.of_words(words)
        if show:
            sys.stdout.write(to_yaml(config))
            return 0
        return finish(command.run(config), whole=whole)
    except KeyboardInterrupt:
        return interrupted()
    except PrimiaError as error:
        return mistake(error)


def with_json(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the other words, and whether `json=true` asks for the whole result on a terminal.

    Raises
    ------
    ConfigError
        If `json` is neither true nor false.
    """
    asked = [word for word in arguments if word.startswith("json=")]
    for word in asked:
        if word not in ("json=true", "json=false"):
            raise ConfigError(f"{printable(word, limit=80)}; expected json=true or json=false")
    return [word for word in arguments if word not in asked], asked[-1:] == ["json=true"]


def finish(result: dict[str, Any] | None, *, whole: bool = False) -> int:
    """Print a command's result as the last line of standard output; exit code from `"ok"`.

    On a terminal without `whole` it is one short line: what is no list and no mapping.
    """
    if result is None:
        return 0
    sys.stdout.flush()
    shown = result if whole or not sys.stdout.isatty() else _short(result)
    print(json.dumps(shown, default=str), flush=True)
    return 0 if result.get("ok", True) else 1


def _short(result: dict[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in result.items() if not isinstance(v, dict | list | tuple)}
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in plain.items()}
    shown = dict(list(rounded.items())[:_FEW])
    return shown if len(shown) == len(result) else {**shown, "more": "json=true"}


def mistake(error: Exception) -> int:
    """Print one sentence for a user's mistake and return its exit code."""
    sentence = printable(" ".join(str(error).split()), limit=_LONGEST_SENTENCE)
    console = Console(stderr=True, emoji=False)
    console.print(Text.assemble(("error:", "bold red"), f" {sentence}"), soft_wrap=True)
    return EXIT_MISTAKE


def interrupted() -> int:
    """Say that the user stopped the command."""
    Console(stderr=True, emoji=False).print("stopped by the user")
    return _EXIT_INTERRUPTED


def _split_flags(command: Command, arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the words that are no flags, and whether `--cfg job` asks to see the result."""
    words, rest = list[str](), list(arguments)
    show = False
    while rest:
        word = rest.pop(0)
        if word in ("--cfg", "-c"):
            show = True
            if rest and rest[0] == "job":
                rest.pop(0)
        elif word.startswith("-"):
            raise PrimiaError(
                f"{word!r} is not a flag of 'primia {command.name}'; expected --help, --cfg job or "
                f"key=value; see primia {command.name} --help"
            )
        else:
            words.append(word)
    return words, show


def _as_override(command: Command, word: str) -> str:
    if ("=" in word or word.startswith("~")) and (is_key(word) or not command.positional):
        return word
    if command.positional:
        return f"{command.positional}={word}"
    raise PrimiaError(
        f"{word!r} is not an argument of 'primia {command.name}'; expected key=value; "
        f"see primia {command.name} --help"
    )
