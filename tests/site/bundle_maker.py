"""Make zip files that look like bundles, honest ones and others."""

import io
import zipfile

PROJECT = """\
[project]
name = "light-app"
version = "1.0.0"
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
clientapp = "light:app"
"""


def make_bundle(files: dict[str, str] | None = None, *, project: str = PROJECT) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pyproject.toml", project)
        for name, text in (files or {"light.py": "app = 1\n"}).items():
            archive.writestr(name, text)
    return buffer.getvalue()
