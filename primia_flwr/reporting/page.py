"""The one place where pages are made: from a template, in one style, with nothing loaded."""

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

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


_TEMPLATES = Environment(
    loader=ChoiceLoader([PackageLoader(f"primia_flwr.{room}") for room in ("reporting", "tasks")]),
    autoescape=select_autoescape(enabled_extensions=("html.jinja",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters.update(count=count, figure=figure, line=_one_line, shown=shown, size=size)
