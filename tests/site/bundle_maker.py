"""Make zip files that look like bundles, honest ones and others."""

import hashlib
import io
import zipfile
from collections.abc import Mapping

PROJECT = """\
[project]
name = "light-app"
version = "1.0.0"
description = "counts"
license = { file = "LICENSE" }
dependencies = ["flwr>=1.41"]
[tool.flwr.app]
publisher = "tests"
fab-format-version = 1
flwr-version-target = "1.41.0"
[tool.flwr.app.components]
serverapp = "light:app"
clientapp = "light:app"
[tool.flwr.app.config]
config = ""
"""


def make_bundle(
    files: Mapping[str, str | bytes] | None = None,
    *,
    project: str | bytes = PROJECT,
    method: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """Return a zip file of a project file and others, by Python's own writer."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_entry("pyproject.toml"), project, method)
        for name, text in (files or {"light.py": "app = 1\n"}).items():
            archive.writestr(_entry(name), text, method)
    return buffer.getvalue()


def make_installable(files: Mapping[str, str | bytes], *, unlisted: tuple[str, ...] = ()) -> bytes:
    """Return a bundle that Flower installs: with its list of files, less those `unlisted`."""
    everything = {"pyproject.toml": PROJECT, "LICENSE": "none\n", **files}
    raw = {n: t.encode() if isinstance(t, str) else t for n, t in everything.items()}
    lines = [
        f"{name},{hashlib.sha256(content).hexdigest()},{len(content) * 8}"
        for name, content in raw.items()
        if name not in unlisted
    ]
    del raw["pyproject.toml"]
    return make_bundle({**raw, ".info/CONTENT": "\n".join(lines)}, method=zipfile.ZIP_STORED)


def _entry(name: str) -> zipfile.ZipInfo:
    """Return an entry with a fixed date, so that the same files are the same bundle."""
    return zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
