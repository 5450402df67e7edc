"""The one place where pages are made: from a template, in one style, with nothing loaded."""

import re
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from primia_flwr.numbers import count, figure, shown, size


def render(name: str, /, **values: Any) -> str:
    """Return a page, e.g. `report.html`, as text; what is in no `Plot` or table of its is escaped.

    Raises
    ------
    jinja2.UndefinedError
        If the template asks for a value that is not given.
    """
    return _TEMPLATES.get_template(f"{name}.jinja").render(values)


def _one_line(value: object) -> str:
    """Return a value that cannot break a Markdown table."""
    return " ".join(str(value).split()).replace("|", r"\|")


def _chapters(content: Markup) -> list[tuple[str, Markup]]:
    """Return id and title of each chapter of a page's content."""
    return [(name, Markup(title)) for name, title in _CHAPTER.findall(content)]


_CHAPTER = re.compile(r'<h2 id="([\w-]+)">(.*?)</h2>')
_TEMPLATES = Environment(
    loader=ChoiceLoader([PackageLoader(f"primia_flwr.{room}") for room in ("reporting", "tasks")]),
    autoescape=select_autoescape(enabled_extensions=("html.jinja",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters.update(chapters=_chapters, count=count, figure=figure)
_TEMPLATES.filters.update(line=_one_line, shown=shown, size=size)
