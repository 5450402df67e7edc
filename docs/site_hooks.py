"""Hooks of the documentation site (mkdocs.yml): the notebook, and pages of the checkout's root.

The pages link to each other as they lie in the checkout, so that they can be read there, too.
"""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
_PLACES = {
    "README.md": "about/overview.md",
    "CHANGELOG.md": "about/changelog.md",
    "SECURITY.md": "about/security.md",
    "CONTRIBUTING.md": "about/contributing.md",
    "LICENSE": "about/license.md",
}
_NOTEBOOK, _AS_PAGE = "tutorial.ipynb", "tutorial.md"
_LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, and nav entries for whole folders."""
    for name, place in _PLACES.items():
        text = (_ROOT / name).read_text("utf-8")
        shown = text if name.endswith(".md") else f"# Licence\n\n```text\n{text}\n```\n"
        files.append(File.generated(config, place, content=shown))
    notebook = json.loads((_ROOT / "docs" / _NOTEBOOK).read_text("utf-8"))
    files.append(File.generated(config, _AS_PAGE, content=_markdown(notebook)))
    config.nav = [_filled(entry, files) for entry in config.nav]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links lead where the linked page lies in the site."""
    place = page.file.src_uri
    origin = {new: old for old, new in _PLACES.items()}.get(place, f"docs/{place}")
    return _LINK.sub(lambda match: match[1] + _moved(match[2], origin, place) + match[3], markdown)


def _markdown(notebook: dict[str, Any]) -> str:
    """Return a notebook as a page, with the file to download."""
    parts = [
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell in notebook["cells"]
        for text in ["".join(cell["source"])]
    ]
    parts.insert(1, f'<p><a href="{_NOTEBOOK}" download>This page as a notebook</a></p>')
    return "\n\n".join(parts) + "\n"


def _filled(entry: Any, files: Files) -> Any:
    ((title, place),) = entry.items()
    if not isinstance(place, str) or not place.endswith("/"):
        return entry
    return {title: sorted(file.src_uri for file in files if file.src_uri.startswith(place))}


def _moved(link: str, origin: str, place: str) -> str:
    """Return a link of the checkout's page `origin` as one of the site's page `place`."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    if target.startswith("docs/"):
        target = target.removeprefix("docs/")
        if target in ("adr", "extending"):  # a folder
            target = "index.md"
        elif target == _NOTEBOOK:
            target = _AS_PAGE
    elif target in _PLACES:
        target = _PLACES[target]
    else:
        return link
    return posixpath.relpath(target, posixpath.dirname(place) or ".")
