"""One clinic that opens as many silent lines as it gets, and strangers: the others are served."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from primia_bench.inference.flood import CLINICS, FLOOD, OPTIONS, flooding, held, served

from primia_flwr.trials.service import running_service
from tests.e2e.test_encrypted_inference import write_images, write_model


@pytest.mark.system
def test_one_clinic_floods_and_two_others_are_served(tmp_path: Path) -> None:
    model, images = write_model(tmp_path / "model"), write_images(tmp_path / "today", 2)
    owners = (FLOOD, *CLINICS)
    with (
        running_service(model, options=OPTIONS, data_owners=owners) as service,
        flooding(service, again=5.0) as flood,
    ):
        served(service, images, tmp_path)
        figures = held(flood)
    for name in CLINICS:
        rows = list(csv.DictReader((tmp_path / name / "predictions.csv").open()))
        assert len(rows) == 2
    # It wants 40 lines at each and gets what one party may have, 2 of 4 places and 4 of 16: one or
    # two more at its own end, where a line is still open that the server has ended.
    assert 1 <= figures["model_owner"]["held"] < 4
    assert 1 <= figures["crypto_provider"]["held"] < 8
    assert figures["model_owner"]["refused"] > 0
