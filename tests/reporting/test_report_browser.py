"""The report in a real headless Chromium: what it shows, asks for, and prints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from primia_flwr.config.rows import TASKS
from primia_flwr.evaluation.explain.cases import ExplainedCase, Explanation, write_cases
from primia_flwr.reporting.report import write_report
from primia_flwr.runs.cross_site import CrossSite, ModelRow, write_matrix
from primia_flwr.runs.evidence import write_evidence
from tests.e2e.runner import TINY, Primia, last_json

from tests.reporting import browser  # isort: skip
from tests.reporting.run_folder_maker import cell  # isort: skip

pytestmark = pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)

CHAPTERS = [
    "Results", "What the model looked at", "Training, round by round", "Sites", "What was run",
    "Time and traffic", "Configuration",
]  # fmt: skip


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.webdriver.Chrome]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def invented(
    make_run_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of three sites with every chapter, cases of a noisy image included."""
    folder = make_run_folder(tmp_path_factory.mktemp("run"))
    write_evidence(folder, TASKS["classification"].judge, seed=1, resamples=100)
    pixels = np.random.default_rng(0).integers(0, 256, (112, 112), dtype=np.uint8)
    heat = np.zeros_like(pixels)
    heat[30:60, 40:90] = 255
    cases = [ExplainedCase(1, "viral", p, 0.9, pixels, heat) for p in ("viral", "normal")]
    write_cases(folder / "saliency", Explanation("layer4", 7, "the test set", tuple(cases)))
    sites = ("munich", "paris", "london")
    row = {site: cell([[6, 4, 0], [1, 9, 0], [0, 0, 0]]) for site in sites}
    rows = tuple(ModelRow(name, 12, row) for name in ("Federated", *sites))
    write_matrix(folder, CrossSite(sites, rows, "classification", 3))
    write_report(folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that `primia train` leaves of a tiny run on synthetic radiographs."""
    folder = tmp_path_factory.mktemp("real")
    arguments = ("aggregation=plain", "debug.cross_site=true", "federation.rounds=2")
    done = Primia(folder)("train", *TINY, *arguments, "baselines=[centralised]", seconds=500)
    assert done.returncode == 0, done.stderr
    run_dir = folder / last_json(done.stdout)["run"]
    assert set(json.loads((run_dir / "cross_site.json").read_text())["sites"]) == {
        *("site-1", "site-2", "site-3"),
    }
    assert "SHA-256" in (run_dir / "model_card.md").read_text()
    return run_dir / "report.html"


def check_page(
    driver: browser.webdriver.Chrome, path: Path, chapters: list[str], tmp_path: Path
) -> None:
    page = browser.Page(driver, path)
    page.resize(1280)
    headings = page.ask("[...document.querySelectorAll('h2')].map(e => e.innerText)")
    assert headings == chapters if chapters else len(headings) > 2
    assert page.ask("[...document.querySelectorAll('nav a')].map(e => e.innerText)") == headings
    assert page.ask(
        "[...document.querySelectorAll('nav a')].every(e => document.querySelector(e.hash))"
    )
    sizes = page.ask(
        "[...document.querySelectorAll('svg, svg image, img')].map(e => "
        "[e.tagName, e.getBoundingClientRect().width, e.getBoundingClientRect().height])"
    )
    assert len(sizes) >= 3
    assert all(width > 20 and height > 20 for _, width, height in sizes), sizes
    for width in (1280, 400):
        page.resize(width)
        assert page.overflow() == 0, f"the page scrolls sideways at {width} pixels"
        page.screenshot(tmp_path / f"{width}.png")
        assert (tmp_path / f"{width}.png").stat().st_size > 20_000
    page.show_as("light", "print")
    shown = "document.querySelector(%r).checkVisibility({contentVisibilityAuto: true})"
    if chapters:
        assert not page.ask(shown % "#config ~ details pre"), "no paper for the configuration"
        assert page.ask(shown % "#training ~ details table"), "other folded tables are printed"
    pdf = page.print_to_pdf()
    assert pdf.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 2 <= pages <= 9
    page.show_as("light")
    assert page.complaints() == []
    assert page.requests() == []


def test_an_invented_run_with_every_chapter(
    driver: browser.webdriver.Chrome, invented: Path, tmp_path: Path
) -> None:
    check_page(driver, invented, CHAPTERS, tmp_path)


@pytest.mark.slow
def test_the_page_of_a_real_run(
    driver: browser.webdriver.Chrome, real: Path, tmp_path: Path
) -> None:
    check_page(driver, real, CHAPTERS, tmp_path)


@pytest.mark.slow
def test_the_page_of_a_comparison(
    driver: browser.webdriver.Chrome, real: Path, tmp_path: Path
) -> None:
    arguments = ("compare", f"runs=[{real.parent}]", f"output={tmp_path / 'comparison'}")
    done = Primia(tmp_path)(*arguments, seconds=500)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "comparison").rglob("compare.html")
    check_page(driver, path, [], tmp_path)


def test_the_log_would_show_a_page_that_loads_and_complains(
    driver: browser.webdriver.Chrome, tmp_path: Path
) -> None:
    """The same questions find the faults of a page that has them."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<body style='width:3000px'><img src='there.png'><script>console.error('no')</script>"
    )
    page = browser.Page(driver, path)
    page.resize(400)
    assert page.overflow() > 0
    assert any("there.png" in address for address in page.requests())
    assert any("no" in message for message in page.complaints())
