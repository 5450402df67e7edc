"""The folder that holds `conf/`, `clients/` and `strategies/`."""

from functools import cache
from pathlib import Path

from primia_flwr.errors import ConfigError


@cache
def app_root() -> Path:
    """Return the folder that holds `conf/`, `clients/` and `strategies/`.

    In a checkout or an arrived Flower bundle it is the folder beside the package; in an
    installed wheel it is `primia_flwr/_bundle`.

    Raises
    ------
    ConfigError
        If neither holds a `conf/config.yaml`.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package.parent, package / "_bundle"):
        if (root / "conf" / "config.yaml").is_file():
            return root
    raise ConfigError(
        f"{package.parent / 'conf'} not found; expected the folder conf/ beside the package; "
        "install primia-flwr again"
    )
