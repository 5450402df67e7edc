"""Whole runs of a segmentation in one process: a search, and what a coordinator's end costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from primia_flwr.cli.main import run as main
from primia_flwr.config.load import to_yaml
from primia_flwr.errors import DataError
from primia_flwr.reporting.report import write_report
from tests.e2e.runner import TINY, InProcess, processes_of
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


def test_the_report_shows_masks_on_images_where_it_may(whole: Federation) -> None:
    """One of the worst, the middle and the best; without the images, masks alone."""
    folder = whole.folder
    (folder / "config.yaml").write_text(to_yaml(whole.experiment))
    assert main(["evaluate", f"run={folder}", "name=own", "saliency=1", "quiet=true"]) == 0
    own = folder / "evaluation" / "own"
    pictures = sorted((own / "saliency").glob("line-*.png"))
    assert len(pictures) == 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in (own / "saliency", *pictures))
    shutil.copytree(own, folder, dirs_exist_ok=True)
    metrics = {"test": {}, "federated": json.loads((own / "metrics.json").read_text())}
    for key in ("run", "round", "config_hash", "data", "synthetic", "warning", "notes"):
        metrics["federated"].pop(key)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps({"synthetic": True}))
    page = write_report(folder).read_text()
    assert "white: the outlines that are true" in page
    assert "Images of patients" not in page
    (folder / "run.json").write_text(json.dumps({"synthetic": False}))
    assert "Images of patients" in write_report(folder).read_text()
    pictures[0].write_bytes(b"no picture")
    shutil.copy(pictures[0], folder / "saliency")
    with pytest.raises(DataError, match=pictures[0].name):
        write_report(folder)
    shutil.rmtree(folder / "saliency")
    bare = write_report(folder).read_text()
    assert "the true regions grey" in bare
    assert "No map is drawn" in bare


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hospitals_behind_their_gates_train_one(tmp_path: Path) -> None:
    """Real SuperNodes over TLS, each with its own policy, which says that its labels are masks."""
    words = [
        *(word for word in TINY if not word.startswith(("model=", "data."))),
        *("data.synthetic.patients=30", "data.image_size=16"),
        *("experiment=segmentation", "federation.rounds=1", "baselines=[]", "output_dir=trial"),
    ]
    done = InProcess(tmp_path)("federation", "trial", *words)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "trial"
    found = json.loads((run / "run.json").read_text())
    assert (found["secure_aggregation"], len(found["sites"])) == (True, 3)
    policies = [yaml.safe_load(path.read_text()) for path in run.glob("trial/**/site.yaml")]
    assert [one["data_task"] for one in policies] == ["segmentation"] * 3
    assert 0 <= json.loads((run / "metrics.json").read_text())["federated"]["dice"] <= 1
    assert not processes_of(tmp_path)
