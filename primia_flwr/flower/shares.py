"""How simulated sites share this machine: how many train at once, on which cores and GPUs.

Ray shows a site's process no GPU unless a share of one is asked for; so one is, where the sites may
train on a GPU and there is one.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError
from primia_flwr.processes.children import available_cores
from primia_flwr.training.device import gpu_memory, pick_device

_GPU_BYTES_A_SITE = 8 << 30
"""Memory of a GPU that is set aside for a site: for a ResNet-18 at 224 pixels and 64 images."""

_SERIAL = 0.25
"""Of a site's turn, what one core does alone: the message, the checks, the model's copies."""


@dataclass(frozen=True)
class Shares:
    """`at_once` sites train at a time, each on `cores` CPU cores and on `gpus` of a GPU.

    `devices`: GPUs that are shared out; 0 where the sites train on the CPU. `only`: the one GPU,
    by its number among those that this process sees, that is shared out.
    """

    at_once: int
    cores: int
    gpus: float = 0.0
    devices: int = 0
    only: int | None = None

    @property
    def visible(self) -> dict[str, str]:
        """What the environment of the sites says of the GPUs that they may see."""
        if self.only is None:
            return {}
        known = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return {"CUDA_VISIBLE_DEVICES": known.split(",")[self.only] if known else str(self.only)}

    def options(self, sites: int) -> str:
        """Return Flower's options for `sites` simulated sites, as `--federation-config` takes."""
        options: dict[str, object] = {
            "num-supernodes": sites,
            "client-resources-num-cpus": self.cores,
            "init-args-num-cpus": self.at_once * self.cores,
            "init-args-log-to-driver": "true",
        }
        if self.devices:
            options["client-resources-num-gpus"] = self.gpus
            options["init-args-num-gpus"] = self.devices
        return " ".join(f"{key}={value}" for key, value in options.items())


def shares(
    experiment: Experiment, *, cores: int | None = None, gpus: Sequence[int] | None = None
) -> Shares:
    """Share the machine out among the simulated sites of an experiment.

    Parameters
    ----------
    cores : int, optional
        In place of those that this process may use.
    gpus : sequence of int, optional
        Memory of each GPU in bytes, in place of those that are visible here.

    Raises
    ------
    ConfigError
        If a GPU, or a share of one, is asked for and there is none.
    """
    federation, device = experiment.federation, experiment.training.device
    gpus = gpu_memory() if gpus is None else gpus
    if federation.gpus_per_site and not gpus:
        raise ConfigError(
            f"federation.gpus_per_site={federation.gpus_per_site} on a machine without a CUDA "
            "device; expected 0; leave it out"
        )
    if device.startswith("cuda"):
        pick_device(device, available=len(gpus))
    if device == "cpu" or not gpus:
        return Shares(*_of_cores(federation, cores or available_cores()))
    only = int(device.removeprefix("cuda:")) if ":" in device else None
    taken = gpus if only is None else [gpus[only]]
    return replace(_of_gpus(federation, cores or available_cores(), taken), only=only)


def _of_cores(federation: FederationConfig, cores: int) -> tuple[int, int]:
    """Return how many simulated sites train at once, and the CPU cores each may use.

    n at once on c cores take ceil(sites / n) turns, of which more cores shorten all but the share
    `_SERIAL`; the n that ends first wins, and of equals the largest. For 3 sites on 2 cores: one at
    a time; for 5 sites: two.
    """
    sites = len(federation.sites)
    if federation.cpus_per_site:
        each = min(federation.cpus_per_site, cores)
        return max(1, cores // each), each
    ends = {
        n: math.ceil(sites / n) * (_SERIAL + (1 - _SERIAL) / (cores // n))
        for n in range(1, min(cores, sites) + 1)
    }
    at_once = max(n for n, value in ends.items() if value == min(ends.values()))
    return at_once, cores // at_once


def _of_gpus(federation: FederationConfig, cores: int, gpus: Sequence[int]) -> Shares:
    """Put as many sites on each GPU as its memory holds, and all GPUs to work.

    While there is a site for each GPU, a site has two cores for its images.
    """
    share = federation.gpus_per_site
    if share:
        places = int(len(gpus) / share) if share > 1 else int(1 / share) * len(gpus)
    else:
        by_memory = max(1, min(gpus) // _GPU_BYTES_A_SITE) * len(gpus)
        places = min(by_memory, max(len(gpus), cores // 2))
    at_once = max(1, min(places, len(federation.sites), cores))
    each = min(federation.cpus_per_site or cores // at_once, cores)
    at_once = min(at_once, cores // each)
    # in four digits, rounded down: Ray puts whole shares on one GPU
    share = share or math.floor(1e4 / math.ceil(at_once / len(gpus))) / 1e4
    return Shares(at_once, each, share, len(gpus))
