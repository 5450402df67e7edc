"""An attack whose result is a table and one picture: JSON, page and PNG, in one folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from primia_flwr.plotting import to_plot, write
from primia_flwr.reporting.page import render
from primia_flwr.storage.atomic import PRIVATE, make_folder, write_atomic


@dataclass(frozen=True)
class Page:
    """What a page says: `rows` of cells below `headings`, of which those in `words` are text."""

    title: str
    question: str
    answer: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    words: Sequence[int] = (0,)


def write_attack(
    folder: Path, name: str, values: dict[str, Any], page: Page, figure: Figure, alt: str
) -> None:
    """Write `<name>.png`, `<name>.html` and, last, `<name>.json`: with it the attack is complete.

    `folder`: made where it is not there. `name`: of the attack. `values`: every figure of the page;
    `run` and `synthetic` among them. `page`: what the page says. `figure`: the picture; `alt` says
    in words what it shows.
    """
    make_folder(folder)
    text = render(
        "attack_table.html",
        run_name=Path(values["run"]).name,
        synthetic=values["synthetic"],
        plot=to_plot(name, figure, alt),
        **vars(page),
    )
    write(figure, folder / f"{name}.png")
    write_atomic(folder / f"{name}.html", text, mode=PRIVATE)
    write_atomic(folder / f"{name}.json", json.dumps(values, indent=1) + "\n", mode=PRIVATE)
