"""Read any supported layout into a manifest: the closed table of layouts."""

from collections.abc import Callable
from pathlib import Path

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.layouts.common import existing_root
from primia_flwr.data.layouts.folder import read_folder
from primia_flwr.data.layouts.pneumonia import is_pneumonia, read_pneumonia
from primia_flwr.data.layouts.synthetic import read_synthetic
from primia_flwr.data.layouts.table import read_table
from primia_flwr.data.manifest import Manifest
from primia_flwr.errors import DataError


def read_manifest(cfg: DataConfig, *, seed: int) -> Manifest:
    """List the images that `data.layout`, `data.root` and `data.manifest` name.

    All splits are listed; `data.split` is applied by the loaders. Files are not decoded.

    Raises
    ------
    ConfigError
        If a needed key is empty.
    DataError
        If the folder or file is missing, empty, or does not follow the layout.
    """
    return LAYOUTS[cfg.layout](cfg, seed=seed)


def in_split(manifest: Manifest, split: str) -> Manifest:
    """Keep the images of one split (`auto`, `all`: every image).

    Raises
    ------
    DataError
        If the data has no such split.
    """
    if split in ("auto", "all"):
        return manifest
    kept = [sample for sample in manifest.samples if sample.split == split]
    if not kept:
        found = sorted({sample.split for sample in manifest.samples} - {""})
        raise DataError(
            f"data.split={split}: {manifest.root} has no such images; found the splits "
            f"{found or 'none'}: use data.split=auto or all"
        )
    return manifest.with_samples(kept)


def _read_auto(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read the manifest if one is named, else the folder by what it looks like."""
    if cfg.manifest:
        return read_table(cfg, seed=seed)
    root: Path = existing_root(cfg)
    read = read_pneumonia if is_pneumonia(root) else read_folder
    return read(cfg, seed=seed)


LAYOUTS: dict[str, Callable[..., Manifest]] = {
    "auto": _read_auto,
    "folder": read_folder,
    "pneumonia": read_pneumonia,
    "manifest": read_table,
    "synthetic": read_synthetic,
}
