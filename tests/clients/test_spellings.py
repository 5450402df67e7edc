"""A patient in another spelling is the same unit of privacy, now and in every later version."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.dataset import LabelledImages, load_own_site
from primia_flwr.errors import DataError
from primia_flwr.privacy.mechanisms.units import units_of
from primia_flwr.training.private import known_by
from tests.data.folder_maker import dicom_set
from tests.privacy.ledgers import charge, open_ledger


def images(**patients: str) -> LabelledImages:
    """Patients by the content of their one image."""
    digests = tuple(hashlib.sha256(name.encode()).hexdigest() for name in patients)
    count = len(patients)
    return LabelledImages(
        torch.zeros((count, 1, 2, 2), dtype=torch.uint8),
        torch.zeros(count, dtype=torch.int64),
        tuple(patients),
        tuple(patients.values()),
        ("ill", "well"),
        digests=digests,
    )


@pytest.mark.parametrize("again", ["p01", "P1", "P 01", "\uff3001"])
def test_a_ledger_knows_a_patient_again_in_another_spelling(tmp_path: Path, again: str) -> None:
    with open_ledger(tmp_path, ceiling=None) as ledger:
        charge(ledger, ledger.register(*known_by("patient", images(a="P01", b="Q"))), run="a")
        later = ledger.register(*known_by("patient", images(c=again, d="R")))
        assert ledger.account.versions[later] == 2
        assert ledger.spent(later) > 0
        other = ledger.register(*known_by("patient", images(e="P02", f="R2")))
        assert ledger.spent(other) == 0


def test_names_count_as_they_are_where_an_image_is_the_unit() -> None:
    found = images(a="P01", b="p01")
    assert known_by("image", found) == (found.files, found.digests)


def test_a_site_counts_spellings_once_and_placeholders_as_one(tmp_path: Path) -> None:
    def patient(c: int, p: int, k: int) -> str:
        return "ANONYMOUS" if p == 5 else f"{('a', 'b')[c] if k else 'AB'[c]}{p:0{3 if k else 2}d}"

    root = dicom_set(tmp_path / "scans", 8, patient=patient)
    cfg = DataConfig(layout="folder", root=str(root), cache_dir=str(tmp_path / "c"), image_size=16)
    data = load_own_site(cfg, seed=1, name="ulm")
    whole = data.train.joined(data.val)
    assert (len(whole), len(units_of("patient", whole.patients, whole.digests))) == (24, 15)


def test_a_site_whose_patients_are_unknown_makes_no_units_of_them(tmp_path: Path) -> None:
    root = dicom_set(tmp_path / "scans", 8, patient=lambda *_: "")
    cfg = DataConfig(layout="folder", root=str(root), cache_dir=str(tmp_path / "c"), image_size=16)
    data = load_own_site(cfg, seed=1, name="ulm")
    with pytest.raises(DataError, match=r"is unknown.*expected a patient for every image"):
        units_of("patient", data.train.patients, data.train.digests)
