"""`primia attack membership` on the folder of a real run through Flower."""

from __future__ import annotations

import json

import pytest

from tests.e2e.runner import TINY, Primia, last_json


@pytest.mark.slow
def test_the_model_of_a_secure_and_of_a_private_run_is_attacked(primia: Primia) -> None:
    private = (
        "privacy=dp_sgd", "privacy.epsilon=5", "privacy.delta=1e-3", "privacy.expected_batch=8",
        "privacy.steps=2", "model.norm_groups=8",
    )  # fmt: skip
    for extra in ((), private):
        done = primia("train", *TINY, "federation.rounds=2", "baselines=[]", *extra)
        assert done.returncode == 0, done.stderr
        folder = primia.folder / last_json(done.stdout)["run"]
        found = primia("attack", "membership", f"run={folder}", "shadows=4", "device=cpu")
        assert found.returncode == 0, found.stderr
        line = last_json(found.stdout)
        sites = json.loads((folder / "run.json").read_text())["sites"]
        trained = sum(site["train"] + (site["val"] if extra else 0) for site in sites)
        assert line["members"] == trained
        values = json.loads((folder / "membership" / "membership.json").read_text())
        if extra:
            assert 0 < values["privacy"]["epsilon"] <= 5
        else:
            assert values["privacy"] is None
