"""Read any layout of the closed table into a manifest."""

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.rows import LAYOUTS
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
    manifest: Manifest = LAYOUTS[cfg.layout](cfg, seed=seed)
    return manifest


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
