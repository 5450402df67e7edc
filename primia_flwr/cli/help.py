"""`--help`: examples, then the keys that matter with meaning and default; `--help=all`: every key.

What a key means is the comment beside or above it in `conf/`, its one place.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from primia_flwr.config.root import app_root
from primia_flwr.config.rows import plugin_folders

_LINE = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_]\w*):(?P<value>(?: [^#]*)?)(?:#(?P<note>.*))?$")
_WIDEST = 34


class _Explained(Protocol):
    """What help asks of a command."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def examples(self) -> tuple[str, ...]: ...

    @property
    def config_name(self) -> str: ...

    @property
    def groups(self) -> bool: ...

    @property
    def most_used(self) -> tuple[str, ...]: ...

    def configured(self) -> Any:
        """Return its defaults as an instance of its dataclass."""


def print_help(command: _Explained, *, whole: bool) -> None:
    """Print what a command does, examples, and its keys: those that matter most, or all."""
    console = Console(emoji=False, highlight=False)
    console.print(f"[bold]primia {command.name}[/]: {_escaped(command.summary)}\n", soft_wrap=True)
    console.print("[bold]Examples[/]")
    for example in command.examples:
        console.print(f"  {_escaped(example)}", soft_wrap=True)
    keys = list(_keys(command))
    few = [row for row in keys if row[0] in command.most_used]
    shown = keys if whole or not few else [(key, text, _first(note)) for key, text, note in few]
    console.print("\n[bold]Keys[/] (key=value; text needs the shell's quotes only)")
    console.print(_table(shown))
    if len(shown) < len(keys):
        console.print(f"\n{len(keys) - len(shown)} more: primia {command.name} --help=all")
    console.print(f"What a command would use: primia {command.name} ... --cfg job")
    console.print("The whole result as the last line, as in a pipe: json=true")


def choices_of(group: str) -> list[str]:
    """Return the names of the files in a group of `conf/`, those of plugins among them."""
    roots = (app_root(), Path("federations"), *plugin_folders())
    return sorted({path.stem for root in roots for path in (root / "conf" / group).glob("*.yaml")})


def keys_of(command: _Explained) -> dict[str, str]:
    """Return the keys of a command, those that name a choice among them, with their defaults."""
    return {key: default for key, default, _ in _keys(command)}


def _keys(command: _Explained) -> Iterator[tuple[str, str, str]]:
    """Yield each key with its default and meaning; a group that has choices before its keys."""
    file = app_root() / "conf" / f"{command.config_name}.yaml"
    groups = _groups(file) if command.groups or "/" not in command.config_name else []
    notes = _all_notes(file, groups)
    for group in ("experiment",) if "experiment" in groups else ():
        yield group, "null", f"one of {', '.join(choices_of(group))}"
    config = OmegaConf.structured(command.configured())
    for key, value in _leaves(config, "", set(groups)):
        if key in groups:
            yield key, _default(file, key), f"one of {', '.join(choices_of(key))}"
        else:
            yield key, value, notes.get(key, "")


def _all_notes(file: Path, groups: list[str]) -> dict[str, str]:
    """Return the meanings of an entry's keys, the default choice of a group first."""
    notes = _notes(file, "")
    for group in groups:
        folder = app_root() / "conf" / group
        own = [folder / f"{name}.yaml" for name in [_default(file, group)] if name != "null"]
        for path in [*own, *sorted(folder.glob("*.yaml"))]:
            spread = "# @package _global_" in path.read_text(encoding="utf-8")
            for key, note in _notes(path, "" if spread else f"{group}.").items():
                notes.setdefault(key, note)
    return notes


def _leaves(config: DictConfig, prefix: str, groups: set[str]) -> Iterator[tuple[str, str]]:
    for name in map(str, config):
        value, key = config._get_node(name), f"{prefix}{name}"
        if isinstance(value, DictConfig) and not value._is_none() and len(value):
            if key in groups:
                yield key, ""
            yield from _leaves(value, f"{key}.", groups)
        else:
            yield key, _text(cast(dict[str, Any], OmegaConf.to_container(config))[name])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _groups(file: Path) -> list[str]:
    """Return the groups of `conf/` that the defaults list of an entry names."""
    return re.findall(r"^  - /?(\w+)(?:@\w+)?: ", file.read_text(encoding="utf-8"), re.MULTILINE)


def _default(file: Path, group: str) -> str:
    found = re.search(
        rf"^  - /?{group}(?:@\w+)?: (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE
    )
    return found.group(1) if found else ""


def _notes(file: Path, prefix: str) -> dict[str, str]:
    """Return the comments of a YAML file by key: beside the key, or in the lines right above it."""
    notes, above, parents = dict[str, str](), list[str](), list[tuple[int, str]]()
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.strip("# "))
            continue
        if match := _LINE.match(line):
            depth = len(match["indent"])
            parents = [(d, name) for d, name in parents if d < depth] + [(depth, match["key"])]
            note = (match["note"] or "").strip() or " ".join(above)
            if note:
                notes[prefix + ".".join(name for _, name in parents)] = note
        above = []
    return notes


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(no_wrap=False, overflow="fold", min_width=min(_WIDEST, _widest(rows)) + 2)
    table.add_column(overflow="fold", ratio=1)
    for key, default, note in rows:
        table.add_row(f"  [bold]{key}[/]={_escaped(default)}", _escaped(note))
    return table


def _first(note: str) -> str:
    """Return the first sentence of a meaning."""
    return re.split(r"(?<=[^.]{3})[.;] ", note, maxsplit=1)[0].rstrip(".")


def _widest(rows: list[tuple[str, str, str]]) -> int:
    return max((len(key) + len(default) + 1 for key, default, _ in rows), default=0)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
