"""One model through both halves: trained with differential privacy, then served encrypted."""

from __future__ import annotations

import json

import pytest

from primia_flwr.models.saved import load_model
from tests.e2e.runner import TINY, Primia, last_json
from tests.e2e.test_encrypted_inference import write_images
from tests.e2e.test_private_run import ledgers

PRIVATE = (
    "privacy=dp_sgd", "privacy.expected_batch=8", "privacy.steps=2", "federation.rounds=2",
    "baselines=[]",
)  # fmt: skip


@pytest.mark.slow
def test_a_private_model_is_served_encrypted(primia: Primia) -> None:
    """The commands of docs/guide-inference.md, but for sizes."""
    trained = primia("train", *TINY, *PRIVATE, "model.norm=none", "output_dir=run")
    assert trained.returncode == 0, trained.stderr
    assert last_json(trained.stdout)["rounds"] == 2
    run = primia.folder / "run"
    assert ledgers(run) == {f"site-{n}": [1, 2] for n in (1, 2, 3)}
    card = load_model(run)[1]
    assert (card.model.norm, card.model.weight_standardisation) == ("none", True)
    assert "epsilon = 8" in card.privacy
    write_images(primia.folder / "validation", 4)
    calibrated = primia("inference", "calibrate", "model=run", "data.root=validation")
    assert calibrated.returncode == 0, calibrated.stderr
    assert max(load_model(run)[1].activation_bounds.bits) <= 32  # type: ignore[union-attr]
    for protocol in ("fss", "crypten"):
        served = primia(
            "inference", "trial", "model=run", "images=4", f"protocol={protocol}",
            f"output={protocol}",
        )  # fmt: skip
        assert served.returncode == 0, served.stderr
        result = last_json(served.stdout)
        assert (result["images"], result["agreement"]) == (4, 1.0)
        assert result["largest_logit_error"] < 0.02
        facts = json.loads((primia.folder / protocol / "predictions.json").read_text())
        assert facts["complete"] is True


def test_the_two_halves_name_the_way_out(primia: Primia) -> None:
    batch = primia("train", *TINY, *PRIVATE, "model={norm: batch, weight_standardisation: false}")
    assert batch.returncode == 2
    assert "served encrypted needs model.norm=none" in " ".join(batch.stderr.split())
