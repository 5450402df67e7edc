"""What lies in a data folder and is not read, or is read from elsewhere: said, never silent."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from primia_flwr.data.files.listing import (
    Listing,
    holds_images,
    is_hidden,
    is_image_name,
    leads_back,
)
from primia_flwr.data.manifest import Manifest
from primia_flwr.storage.printable import printable

_PLAIN = frozenset(
    {"txt", "csv", "tsv", "json", "xml", "md", "yaml", "yml", "html", "htm", "pdf", "ini", "db"}
    | {"log", "xlsx", "xls", "ods", "docx", "doc", "rtf", "py", "sh", "m", "lnk", "url", "lock"}
    | {"safetensors"}
)
"""Suffixes of what people keep beside images; counted, but no reason for a warning."""


def with_aside(
    manifest: Manifest, parents: Sequence[Path], listings: Mapping[Path, Listing]
) -> Manifest:
    """Add what is not read: in class folders, by their listings, and beside them in `parents`."""
    beside = Listing()
    for path in (path for parent in parents for path in sorted(parent.iterdir())):
        if path.name.startswith("."):
            beside.hidden += holds_images(path) if path.is_dir() else is_image_name(path.name)
        elif not path.is_dir() and not is_hidden(path.name):
            beside.look_at(path)
    every = [beside, *listings.values()]
    unread: Counter[str] = Counter()
    for listing in every:
        unread.update(listing.unread)
    unread["image beside the class folders"] = len(beside.images)
    noted = manifest.noting(*_notes(manifest.root, parents, listings, beside))
    return noted.leaving(unread)


def _notes(
    root: Path, parents: Sequence[Path], listings: Mapping[Path, Listing], beside: Listing
) -> list[str]:
    def some(paths: Iterable[Path], what: str) -> str:
        found = [path.relative_to(root).as_posix() for path in paths]
        return f"{len(found)} {what}, e.g. {printable(found[0], limit=200)}" if found else ""

    every = [beside, *listings.values()]
    hidden = sum(listing.hidden for listing in every)
    entries = [path for parent in parents for path in sorted(parent.iterdir())]
    linked = [path for path in listings if path.is_symlink()]
    return [
        _unread(root, every),
        some(beside.images, "image(s) beside the class folders are not read"),
        some((p for one in every for p in one.special), "pipe(s) or device(s) are not read"),
        some((p for one in every for p in one.closed), "folder(s) may not be read by this user"),
        f"{hidden} hidden image(s) or folder(s) are not read" if hidden else "",
        some(
            [p for p in entries if leads_back(p)] + [p for one in every for p in one.loops],
            "link(s) to a folder above are not followed",
        ),
        some(
            [*linked, *(p for one in every for p in one.links)],
            f"linked folder(s) are read, of which {_outside(root, linked, every)} lead out of "
            "data.root",
        ),
        some(
            (p for one in every for p in one.linked if not p.resolve().is_relative_to(root)),
            "linked image(s) lie outside of data.root and are read",
        ),
        some(
            (folder for folder, one in listings.items() if not one.images),
            "folder(s) beside the classes have no image that is read",
        ),
    ]


def _outside(root: Path, linked: Sequence[Path], every: Sequence[Listing]) -> int:
    links = [*linked, *(path for listing in every for path in listing.links)]
    return sum(not path.resolve().is_relative_to(root) for path in links)


def _unread(root: Path, every: Sequence[Listing]) -> str:
    """Say how many files are not read, by suffix, if there may be images among them."""
    counts: Counter[str] = Counter()
    for listing in every:
        counts.update({k: n for k, n in listing.unread.items() if k not in _PLAIN})
    if not counts:
        return ""
    first = next(path for one in every for k, path in one.first.items() if k in counts)
    by_suffix = ", ".join(f"{n} {'.' + k if k else 'without'}" for k, n in sorted(counts.items()))
    return (
        f"{counts.total()} file(s) are not read, by suffix: {by_suffix} "
        f"(e.g. {printable(first.relative_to(root).as_posix(), limit=200)}); expected JPEG, PNG, "
        "TIFF or DICOM: convert them, or take them out"
    )
