"""The site of `make docs`: built without a warning, nothing loaded from elsewhere, no dead link."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.blocks import ROOT

LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
NOT_LOADED = {"canonical", "prev", "next", "alternate"}  # relations of a link


class Html(HTMLParser):
    """What a page loads, where it links to, and what can be linked to on it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded, self.links, self.ids = list[str](), list[str](), set[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {str(found[key]) for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        address = found.get(LOADING.get(tag, ""))
        if address and found.get("rel") not in NOT_LOADED:
            self.loaded.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "built"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    return {path: Html(path) for path in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Html]) -> None:
    assert len(pages) > 50
    addresses = {address for page in pages.values() for address in page.loaded}
    assert [one for one in addresses if urlsplit(one).scheme not in ("", "data")] == []
    assert [path for path in pages if "cdn" in path.read_text(encoding="utf-8")] == []


def test_no_link_is_dead(pages: dict[Path, Html]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].ids
            ):
                dead.append((path.name, link))
    assert dead == []


def test_the_api_is_there_with_its_parameters_and_can_be_searched(site: Path) -> None:
    page = (site / "api-reference.html").read_text()
    for text in (
        "primia_flwr.api.training.train",
        "output_dir",
        "Go on with a run that was stopped",
    ):
        assert text in page
    found = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    words = " ".join(entry["title"] + entry["text"] for entry in found)
    for text in ("pf.train", "secure aggregation", "A federation in a notebook"):
        assert text in words
    assert (site / "tutorial.html").is_file()
