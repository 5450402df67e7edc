"""How many baselines are trained at once, and which of them in which process."""

from collections.abc import Mapping

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.training.device import pick_device

WORTH = 15.0
"""Seconds of training from which processes pay: each begins with some seconds of imports."""

_PROCESS = 1 << 30  # bytes of a process with PyTorch and a model
_BATCH = 8 << 30  # bytes of a ResNet-18's step on 64 images of 224 pixels, as on a GPU
_BATCH_PIXELS = 64 * 224**2


def lanes_of(
    experiment: Experiment, images: Mapping[str, int], *, seconds: float, cores: int, memory: int
) -> list[list[str]]:
    """Deal baselines to processes; one list where all are trained in this one.

    The largest comes first, and each goes where least is to be done so far: of three sites and
    all their images, the sites to one process and all images to the other.

    Parameters
    ----------
    images : mapping of str to int
        The images of each baseline.
    seconds : float
        That all of them may take one after another.
    cores : int
        That this process may use.
    memory : int
        Bytes that are free.
    """
    lanes: list[list[str]] = [[] for _ in range(_at_once(experiment, images, cores, memory))]
    if len(lanes) < 2 or seconds < WORTH:
        return [list(images)]
    load = [0] * len(lanes)
    for name in sorted(images, key=images.__getitem__, reverse=True):
        least = load.index(min(load))
        lanes[least].append(name)
        load[least] += images[name]
    return lanes


def _at_once(experiment: Experiment, images: Mapping[str, int], cores: int, memory: int) -> int:
    """Return how many may be trained side by side: on a GPU, which they would share, one."""
    if not images or pick_device(experiment.training.device).type != "cpu":
        return 1
    data, batch = experiment.data, experiment.training.batch_size
    pixels = data.image_size**2
    held = 2 * max(images.values()) * pixels * data.channels
    each = _PROCESS + held + _BATCH * batch * pixels // _BATCH_PIXELS
    return max(1, min(cores, len(images), memory // each))
