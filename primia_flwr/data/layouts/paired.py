"""Images beside their masks: `[train|val|test/]images/[<patient>/]<name>.*`, `masks/` alike."""

from collections.abc import Mapping
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.files.listing import SUFFIXES, Listing, list_folder
from primia_flwr.data.layouts.folder import patients_by_path
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.reading.aside import with_aside
from primia_flwr.data.reading.common import existing_root, is_synthetic, no_images, split_folders
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.printable import printable

_IMAGES, _MASKS = "images", "masks"


def read_paired(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read images with a mask each, of the same name without its suffix.

    The patient of an image is found as in class folders, with `images` in place of the class.

    Raises
    ------
    DataError
        If the folder is missing or empty, or an image or a mask has no partner.
    ConfigError
        If `data.classes` does not name the classes of the masks.
    """
    root, values = existing_root(cfg), mask_values(cfg)
    parents = split_folders(root)
    patient_of = patients_by_path(cfg, 2 if parents[0][0] else 1)
    folders = [parent / name for _, parent in parents for name in (_IMAGES, _MASKS)]
    listings = {folder: _listed(root, folder) for folder in folders}
    samples = [
        Sample(
            image.relative_to(root).as_posix(),
            0,
            patient_of(root, image),
            split=split,
            mask=mask.relative_to(root).as_posix(),
        )
        for split, parent in parents
        for image, mask in _pairs(root, parent, listings)
    ]
    if not samples:
        raise no_images(root, "images/<image> and masks/<mask>, or train/images/<image>")
    classes = tuple(cfg.classes)
    found = Manifest(root, classes, tuple(samples), is_synthetic(root), mask_values=values)
    return with_aside(found, [parent for _, parent in parents], listings)


def mask_values(cfg: DataConfig) -> tuple[int, ...]:
    """Return the value of each class in the files of masks.

    Raises
    ------
    ConfigError
        If `data.classes` names none.
    """
    if not cfg.classes:
        raise ConfigError(
            "data.classes=[]; expected what the values of a mask stand for, the background first, "
            "e.g. data.classes=[background,lesion], with data.mask_values=[0,255] where they are "
            "not 0 and 1"
        )
    return tuple(cfg.mask_values) or tuple(range(len(cfg.classes)))


def _pairs(root: Path, parent: Path, listings: Mapping[Path, Listing]) -> list[tuple[Path, Path]]:
    images, masks = (
        _by_name(root, parent / name, listings[parent / name]) for name in (_IMAGES, _MASKS)
    )
    for what, have, lack, other in (
        ("image", images, masks, _MASKS),
        ("mask", masks, images, _IMAGES),
    ):
        alone = sorted(set(have) - set(lack))
        if alone:
            first = have[alone[0]].relative_to(root).as_posix()
            raise DataError(
                f"{root}: {len(alone)} {what}(s) without a partner, e.g. "
                f"{printable(first, limit=200)}; expected a file of the same name in {other}/: add "
                "it, or take the file out"
            )
    return [(images[name], masks[name]) for name in images]


def _listed(root: Path, folder: Path) -> Listing:
    if folder.is_dir():
        return list_folder(folder)
    raise DataError(
        f"{root}: no folder {folder.relative_to(root).as_posix()}/; expected images/ and masks/ "
        "beside each other, perhaps below train/, val/ and test/"
    )


def _by_name(root: Path, folder: Path, listing: Listing) -> dict[str, Path]:
    """Return the images below a folder by their path in it, without the suffix of a format."""
    found: dict[str, Path] = {}
    for path in listing.images:
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in SUFFIXES:
            name = name.removesuffix(path.suffix)
        if name in found:
            raise DataError(
                f"{path.relative_to(root).as_posix()!r:.200}: {found[name].name!r:.100} has the "
                "same name but for its suffix; expected one: rename or remove one"
            )
        found[name] = path
    return found


LAYOUT = read_paired
