"""Which baselines train at once, and where: by hand."""

import pytest
import torch

from primia_flwr.config.load import compose_experiment
from primia_flwr.pipeline.baselines import lanes
from primia_flwr.pipeline.baselines.lanes import WORTH, lanes_of

DEMO = {"local-a": 4, "local-b": 4, "local-c": 4, "centralised": 12}
PLENTY = 1 << 40
# 64 images of 224 pixels: a process takes 1 GiB, its step 8 GiB; of 12 images 2 x 12 x 224^2 bytes.
WORDS = ("training.batch_size=64", "data.image_size=224", "data.channels=1", "training.device=cpu")
EACH = (9 << 30) + 2 * 12 * 224**2


def dealt(
    images: dict[str, int] = DEMO,
    *words: str,
    seconds: float = WORTH,
    cores: int = 2,
    memory: int = PLENTY,
) -> list[list[str]]:
    experiment = compose_experiment([*WORDS, *words])
    return lanes_of(experiment, images, seconds=seconds, cores=cores, memory=memory)


def test_all_images_in_one_process_and_their_three_parts_in_another() -> None:
    assert dealt() == [["centralised"], ["local-a", "local-b", "local-c"]]


def test_each_goes_where_least_is_to_be_done() -> None:
    sizes = {"local-a": 1, "local-b": 5, "local-c": 4, "local-d": 3}  # 5 + 1, 4 + 3
    assert dealt(sizes) == [["local-b", "local-a"], ["local-c", "local-d"]]


def test_no_more_processes_than_baselines() -> None:
    assert sorted(map(len, dealt(cores=64))) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("memory", "count"), [(2 * EACH, 2), (2 * EACH - 1, 1), (EACH - 1, 1), (4 * EACH, 4)]
)
def test_no_more_than_the_memory_holds(memory: int, count: int) -> None:
    assert len(dealt(cores=4, memory=memory)) == count


@pytest.mark.parametrize(
    ("images", "seconds", "cores"),
    [(DEMO, WORTH - 0.1, 2), (DEMO, WORTH, 1), ({"centralised": 12}, 1e6, 8), ({}, 1e6, 8)],
)
def test_small_work_one_core_or_one_baseline_stay_in_this_process(
    images: dict[str, int], seconds: float, cores: int
) -> None:
    assert dealt(images, seconds=seconds, cores=cores) == [list(images)]


def test_on_a_gpu_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "pick_device", lambda _: torch.device("cuda", 0))
    assert dealt() == [list(DEMO)]
