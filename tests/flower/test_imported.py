from pathlib import Path

from primia_flwr.flower.imported import imported


def tree(folder: Path, files: dict[str, str]) -> dict[str, Path]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {path.name: path for path in folder.iterdir()}


def test_follows_imports_wherever_they_stand(tmp_path: Path) -> None:
    packages = tree(
        tmp_path,
        {
            "app/main.py": "import os\nfrom lib.a import thing\ndef f():\n    import lib.deep.b\n",
            "app/alone.py": "",
            "lib/__init__.py": "",
            "lib/a.py": "from lib import c\nfrom lib.a import thing\n"
            "if TYPE_CHECKING:\n    import lib.unused\n",
            "lib/c.py": "import json\n",
            "lib/deep/__init__.py": "from lib.d import x\n",
            "lib/deep/b.py": "",
            "lib/d.py": "",
            "lib/unused.py": "import lib.a\n",
        },
    )
    rows = {str(p.relative_to(tmp_path)) for p in imported(packages, {"lib.deep"})}
    assert rows == {"lib/__init__.py", "lib/deep/__init__.py", "lib/deep/b.py", "lib/d.py"}
    found = {str(p.relative_to(tmp_path)) for p in imported(packages, {"app"})}
    assert found == {
        "app/main.py", "app/alone.py", "lib/__init__.py", "lib/a.py", "lib/c.py",
        "lib/deep/__init__.py", "lib/deep/b.py", "lib/d.py",
    }  # fmt: skip
