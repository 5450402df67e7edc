"""Published sets of images, known by the files that lie in their folder."""

import re
from pathlib import Path

_TABLES = {
    "nih": r"data_entry_2017.*\.csv",
    "padchest": r"padchest.*\.csv",
    "mimic_cxr": r"mimic-cxr-2\.0\.0-(?:chexpert|negbio|split)\.csv",
    "chexpert": r"(?:train|valid|test)\.csv",
    "msd": r"dataset\.json",
}
"""Of each layout the name of a table in its folder, in small letters, without `.gz`."""

_BESIDE = {
    "chexpert": ("train/patient*", "valid/patient*", "test/patient*"),
    "msd": ("imagesTr",),
}
"""What must lie beside a table of a usual name, one of these."""


def published_layout(root: Path) -> str:
    """Return the layout of a published set in a folder, or one below; nothing where there is none.

    A folder that cannot be listed is left to whoever reads it.
    """
    below = sorted(path for path in _listed(root) if path.is_dir())
    return next(filter(None, map(_layout_of, (root, *below))), "")


def _layout_of(folder: Path) -> str:
    names = [path.name.lower().removesuffix(".gz") for path in _listed(folder)]
    for layout, pattern in _TABLES.items():
        has_table = any(re.fullmatch(pattern, name) for name in names)
        if has_table and any(any(folder.glob(name)) for name in _BESIDE.get(layout, ("*",))):
            return layout
    return ""


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
