"""The one environment of pages: what it escapes, what it refuses, and that there is no second."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import primia_flwr
from primia_flwr.config.rows import TASKS
from primia_flwr.plotting import drawing, to_plot
from primia_flwr.reporting import page

PACKAGE = Path(primia_flwr.__file__).parent
TEMPLATES = [p for room in ("reporting", "tasks") for p in (PACKAGE / room / "templates").iterdir()]
PARTS = {"base", "table", "search", "report_saliency", "classification"}
PARTS |= {"segmentation", "multilabel"}
PAGES = [
    path
    for path in TEMPLATES
    if path.name.endswith(".html.jinja") and path.name.split(".")[0] not in PARTS
]


def test_a_value_that_is_not_given_is_refused() -> None:
    with pytest.raises(UndefinedError, match="run"):
        page.render("report.html")


def test_text_is_escaped_and_a_picture_is_not() -> None:
    with drawing(1, 1) as (figure, _):
        plot = to_plot("<p>", figure, "<alt>")
    found = {"rungs": [], "chosen": None, "method": "<m>", "image_passes": 1}
    text = page.render("search.html", found=found, headings=["<h>"], lines=[["<c>"]], plots=[plot],
                       ranks=[], rank_lines=[], overrides="", aim=TASKS["classification"].aim,
                       counted="counts")  # fmt: skip
    assert "<m>" not in text.lower()
    for escaped in ("&lt;m&gt;", "&lt;h&gt;", "&lt;c&gt;"):
        assert escaped in text
    assert '<svg role="img" aria-label="&lt;alt&gt;"' in text


def test_every_page_is_the_base_with_its_one_style_and_nothing_loaded() -> None:
    assert {p.name.split(".")[0] for p in PAGES} == {
        *("report", "sweep", "attack", "attack_table", "membership"),
        *("classification_compare", "models_compare", "segmentation_compare", "multilabel_compare"),
    }
    for path in PAGES:
        shared = path.name.startswith(("segmentation", "multilabel"))
        parent = "models_compare" if shared else "base"
        assert path.read_text().startswith(f'{{% extends "{parent}.html.jinja" %}}'), path.name
    base = next(path for path in TEMPLATES if path.name == "base.html.jinja").read_text()
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in base
    for path in TEMPLATES:
        text = path.read_text()
        assert ("<style" in text) is (path.name == "base.html.jinja"), path.name
        assert not re.search(r"<script|<link|@import|url\(|https?://", text), path.name


def test_nothing_else_builds_an_environment() -> None:
    builders = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "jinja2" in path.read_text()
    ]
    assert builders == ["reporting/page.py"]
