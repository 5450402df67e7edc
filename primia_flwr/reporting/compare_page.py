"""The folder of a comparison: JSON, CSV tables, plots, and one self-contained page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from primia_flwr.errors import ConfigError
from primia_flwr.plotting import Plot
from primia_flwr.reporting import page
from primia_flwr.storage.atomic import PRIVATE, atomic_folder, write_atomic, writing
from primia_flwr.tables import Sheet
from primia_flwr.tasks.judge import Comparison

_RESULT, _PAGE = "comparison.json", "compare.html"


def write_comparison(target: Path, found: Comparison, about: Mapping[str, Any]) -> Path:
    """Write the folder, whole or not at all, in place of an earlier comparison; return its page.

    Parameters
    ----------
    target : Path
        The folder.
    found : Comparison
        What was computed.
    about : mapping
        `title`, `synthetic` and `data` (in words), and what else belongs into the JSON.

    Raises
    ------
    ConfigError
        If the folder holds something else, or cannot be written.
    """
    check_target(target)
    tables, drawn = found.sheets(), found.plots()
    contents = {
        _RESULT: json.dumps({**about, **found.to_dict()}, indent=1, allow_nan=False) + "\n",
        _PAGE: _render(found, tables, drawn, about),
        **{f"{sheet.name}.csv": sheet.to_csv() for sheet in tables},
        **{f"plots/{name}.svg": plot.svg for name, plot in drawn.items()},
    }
    remedy = "expected a writable folder with free space; give another one as output=<folder>"
    with (
        writing(f"output={target}", error=ConfigError, remedy=remedy),
        atomic_folder(target, mode=0o700) as draft,
    ):
        (draft / "plots").mkdir()
        for name, text in contents.items():
            write_atomic(draft / name, text, mode=PRIVATE)
        if target.exists():
            shutil.rmtree(target)
    return target / _PAGE


def check_target(target: Path) -> None:
    """Refuse a folder that holds anything but an earlier comparison.

    Raises
    ------
    ConfigError
        If it does.
    """
    if target.is_file() or (
        target.is_dir() and any(target.iterdir()) and not (target / _RESULT).is_file()
    ):
        raise ConfigError(
            f"output={target} exists and is no earlier comparison; expected a new folder, or one "
            f"with a {_RESULT}; give another one as output=<folder>"
        )


def _render(
    found: Comparison, tables: list[Sheet], drawn: Mapping[str, Plot], about: Mapping[str, Any]
) -> str:
    """Return the page as text."""
    return page.render(
        f"{found.template}.html",
        about=about,
        sheets={sheet.name: sheet for sheet in tables},
        notes=found.notes,
        plots=drawn,
        **found.page(),
    )
