"""Whatever `data.manifest` or `data.root` turns out to be."""

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.layouts.folder import read_folder
from primia_flwr.data.layouts.manifest import read_table
from primia_flwr.data.layouts.paired import read_paired
from primia_flwr.data.layouts.pneumonia import is_pneumonia, read_pneumonia
from primia_flwr.data.manifest import Manifest
from primia_flwr.data.reading.common import existing_root
from primia_flwr.data.reading.published import published_layout
from primia_flwr.errors import ConfigError


def _read_auto(cfg: DataConfig, *, seed: int) -> Manifest:
    """Read the manifest if one is named, else the folder by what it looks like.

    Raises
    ------
    ConfigError
        If the folder is that of a published set, whose folders are no classes.
    """
    if cfg.manifest:
        return read_table(cfg, seed=seed)
    if found := published_layout(existing_root(cfg)):
        words = f"task={'segmentation' if found == 'msd' else 'multilabel'} data={found}"
        raise ConfigError(
            f"data.root={cfg.root} looks like the set that data={found} reads; expected its own "
            f"layout, for its folders are no classes: set {words}, or name another in data.layout"
        )
    if TASKS[cfg.task].masked:
        return read_paired(cfg, seed=seed)
    read = read_pneumonia if is_pneumonia(existing_root(cfg)) else read_folder
    return read(cfg, seed=seed)


LAYOUT = _read_auto
