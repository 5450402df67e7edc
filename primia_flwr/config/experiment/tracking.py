"""Where a run is tracked beyond its own folder, which always holds the full record."""

import re
from dataclasses import dataclass, field

from primia_flwr.config.checks import check_choice
from primia_flwr.errors import ConfigError

TRACKING_MODES = ("auto", "offline", "online", "disabled")


@dataclass
class TrackingConfig:
    """Weights & Biases: off the network unless a key is set.

    `mode`: `auto` is online where an API key is set and offline elsewhere; `offline` writes
    files that `wandb sync` can upload later; `disabled` writes nothing. `group` collects the
    coordinator and the sites of one run (empty: the name of the run folder). `sites` adds one
    W&B run per site, `model` uploads the trained model as an artifact.
    """

    mode: str = "auto"
    project: str = "primia"
    entity: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    sites: bool = False
    model: bool = True

    def __post_init__(self) -> None:
        check_choice("tracking.mode", self.mode, TRACKING_MODES)
        if not re.fullmatch(r"[^/\\#?%:\s][^/\\#?%:]{0,127}", self.project):
            raise ConfigError(
                f"tracking.project={self.project!r}; expected 1 to 128 characters without "
                r"any of /\#?%:, e.g. primia"
            )
        if len(self.group) > 128:
            raise ConfigError(
                f"tracking.group has {len(self.group)} characters; expected at most 128, e.g. demo"
            )
        for tag in self.tags:
            if not 1 <= len(tag) <= 64:
                raise ConfigError(
                    f"tracking.tags: {tag!r}; expected 1 to 64 characters each, e.g. [pneumonia]"
                )
