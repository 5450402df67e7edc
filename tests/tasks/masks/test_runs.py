"""Whole runs of a segmentation in one process: a search, and what a coordinator's end costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from tests.walks.federation import Federation

WORDS = (
    "task=segmentation", "model=unet", "data.image_size=16", "data.synthetic.patients=30",
    "federation.min_sites=3", "federation.rounds=2", "training.optimizer_state=keep",
    "search=demo", "search.population=2",
)  # fmt: skip


class Ended(BaseException):
    """The coordinator's process ends."""


def begin(folder: Path) -> Federation:
    return Federation(folder, *WORDS)


@pytest.fixture(autouse=True, scope="module")
def one_run():
    """Flower's names of a run, which a process has in a real one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_run_id", "_node_id", "_task_id"):
            patch.setattr(TaskIdentity, name, 1)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    made = begin(tmp_path_factory.mktemp("whole"))
    made.run()
    return made


def test_a_search_goes_on_with_the_configuration_of_the_higher_dice(whole: Federation) -> None:
    """Two configurations for one round; the better one for a second."""
    found = json.loads((whole.folder / "search.json").read_text())
    assert [len(site.sent) for site in whole.sites] == [3, 3, 3]
    chosen, out = sorted(found["configurations"], key=lambda one: str(one["status"]))
    assert [(one["status"], one["rounds"]) for one in (chosen, out)] == [("chosen", 2), ("out", 1)]
    assert chosen["rungs"][0]["dice"] > out["dice"]


def test_a_run_that_was_ended_goes_on_to_the_same_model(whole: Federation, tmp_path: Path) -> None:
    broken = begin(tmp_path)
    last, answer = broken.sites[2], broken.sites[2].answer

    def ends(message: Message) -> Message | None:
        if message.metadata.message_type == "train" and len(last.sent) == 2:
            raise Ended
        return answer(message)

    last.answer = ends
    with pytest.raises(Ended):
        broken.run()
    assert not (broken.folder / "model.safetensors").exists()
    last.answer = answer
    broken.run(resume=True)
    models = [(made.folder / "model.safetensors").read_bytes() for made in (whole, broken)]
    assert models[0] == models[1]
