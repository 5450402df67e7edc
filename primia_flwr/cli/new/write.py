"""Write the file, the YAML and the test of a row of one's own."""

import keyword
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.config.rows import LAYOUTS, MODELS, RULES, TASKS, Table
from primia_flwr.errors import ConfigError
from primia_flwr.storage.atomic import write_together, writing

_TABLES: dict[str, Table] = {"strategy": RULES, "model": MODELS, "task": TASKS, "layout": LAYOUTS}
_TRY = {
    "strategy": "strategy={name}",
    "model": "model={name}",
    "task": "task={name}",
    "layout": "data={name} data.root=FOLDER",
}


@dataclass
class _NewConfig:
    """Arguments of `primia new`: the name of the row, and the plugins folder."""

    name: str = ""
    folder: str = "."


def command(kind: str, what: str) -> Command:
    """Return the command that writes one kind of row."""
    return Command(
        words=("new", kind),
        summary=(
            f"write {what} of your own: a file with its row, the YAML beside it and a test; "
            "--plugins FOLDER then takes it into any command, and the bundle carries it to sites"
        ),
        examples=(
            f"primia new {kind} my_{kind} folder=plugins",
            "primia train --plugins plugins " + _TRY[kind].format(name=f"my_{kind}"),
            "pytest plugins/tests",
        ),
        config_name=f"commands/new/{kind}",
        schema=_NewConfig,
        run=partial(_run, kind),
        positional="name",
    )


def _templates(kind: str, name: str, root: Path) -> dict[Path, str]:
    """Return, by the file that is to be written, the name of its template."""
    table = _TABLES[kind]
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ConfigError(
            f"name={name!r}; expected letters, digits and _, not first a digit, e.g. my_{kind}"
        )
    if name in table:
        raise ConfigError(f"name={name} is a {kind} already; expected another name")
    folder, group = table.kind
    wanted = {
        root / folder / f"{name}.py": f"{kind}.py.txt",
        root / "conf" / group / f"{name}.yaml": f"{kind}.yaml.txt",
        root / "tests" / f"test_{name}.py": f"{kind}.test.py.txt",
    }
    for path in wanted:
        if path.exists():
            raise ConfigError(f"{path} exists; expected another name, or another folder=")
    return wanted


def _run(kind: str, cfg: _NewConfig) -> dict[str, Any]:
    name, root = cfg.name, Path(cfg.folder).expanduser().resolve()
    texts = files("primia_flwr.cli.new").joinpath("templates")
    written = {
        path: Template(texts.joinpath(source).read_text("utf-8")).substitute(name=name)
        for path, source in _templates(kind, name, root).items()
    }
    with writing(root, error=ConfigError, remedy="expected a folder that can be written to"):
        for path in written:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_together(written)
    tried = f"primia train --plugins {root} experiment=demo {_TRY[kind].format(name=name)}"
    console = Console(emoji=False)
    for line in (*(f"wrote {path}" for path in written), f"try   {tried}"):
        console.print(line, highlight=False, soft_wrap=True)
    return {"ok": True, "files": [str(path) for path in written]}
