"""Rows of one's own train: in simulation, and at real sites behind the gate."""

import json

import pytest
from PIL import Image

from tests.e2e.in_memory import in_memory
from tests.e2e.runner import InProcess, Primia, last_json

KINDS = ("strategy", "model", "task", "layout")
CHOICES = ("strategy=own_strategy", "model=own_model", "task=own_task", "data=own_layout")
SMALL = (
    "data.root=images", "data.image_size=32", "training.batch_size=4", "federation.rounds=1",
    "training.threads=1", "tracking=disabled", "report.saliency=1",
)  # fmt: skip


@pytest.fixture
def project(primia):
    for kind in KINDS:
        assert (
            InProcess(primia.folder)("new", kind, f"own_{kind}", "folder=plugins").returncode == 0
        )
    for name, grey in (("dark", 40), ("light", 200)):
        for patient in range(24):
            path = primia.folder / "images" / name / f"{name}{patient}_a.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (32, 32), grey + patient).save(path)
    return primia


@pytest.mark.system
@pytest.mark.parametrize(
    "run_in", [in_memory, pytest.param(Primia.__call__, id="simulation", marks=pytest.mark.slow)]
)
def test_one_of_each_kind_trains_securely(project, run_in):
    done = run_in(project, "train", "--plugins", "plugins", *CHOICES, *SMALL)
    assert done.returncode == 0, done.stderr
    run = project.folder / last_json(done.stdout)["run"]
    facts = json.loads((run / "run.json").read_text())
    assert facts["secure_aggregation"] is True
    assert facts["strategy"].startswith("own_strategy")
    assert (run / "report.html").is_file()
    assert list((run / "saliency").iterdir()), "maps of the layer that the model's row names"
    wanted = (
        "strategies/own_strategy.py", "primia_flwr/models/architectures/own_model.py",
        "primia_flwr/tasks/own_task.py", "primia_flwr/data/layouts/own_layout.py",
        "conf/strategy/own_strategy.yaml",
    )  # fmt: skip
    staged = next(iter(run.rglob("own_strategy.py"))).parents[1]
    assert all((staged / name).is_file() for name in wanted)


@pytest.mark.slow
def test_one_of_each_kind_trains_at_real_sites(project):
    done = project(
        "federation", "trial", "--plugins", "plugins", *CHOICES, *SMALL, seconds=500
    )  # three SuperNodes that run only what the policy of each has approved
    assert done.returncode == 0, done.stderr
    assert last_json(done.stdout)["rounds"] == 1
