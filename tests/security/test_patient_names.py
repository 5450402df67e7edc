"""No file that a run leaves outside the site's private folder names a patient."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.data.deidentification.headers import pixels_of, radiograph, write
from tests.e2e.conftest import primia as primia
from tests.e2e.runner import Primia, last_json

PATIENTS = [f"MRN-48{number:03d}" for number in range(60)]


def _scans(folder: Path) -> Path:
    """Write two classes of thirty patients, two DICOM images each, named by nobody."""
    generator = np.random.default_rng(1)
    for number, patient in enumerate(PATIENTS):
        for image in range(2):
            found = radiograph(patient, SOPInstanceUID=f"1.2.3.{number}.{image}")
            low = 2000 * (number % 2)
            pixels = generator.integers(low, low + 1500, (24, 24), dtype=np.uint16)
            pixels_of(found, pixels, stored=12)
            found.WindowCenter, found.WindowWidth = 2048, 4096
            label = ("ill", "well")[number % 2]
            write(folder / label / f"{number:02d}-{image}.dcm", found)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_patient_is_named_nowhere_and_is_the_same_in_every_run(primia: Primia) -> None:
    scans = _scans(primia.folder / "scans")
    common = (
        "data=folder", f"data.root={scans}", "data.image_size=16",
        "federation.rounds=1", "training.batch_size=16", "training.threads=1", "model=simpleconv",
        "training.device=cpu", "report.saliency=1", "tracking=disabled",
    )  # fmt: skip
    folders = []
    for seed in ("training.learning_rate=0.001", "training.learning_rate=0.002"):
        done = primia("train", *common, seed)
        assert done.returncode == 0, done.stderr
        folders.append(primia.folder / last_json(done.stdout)["run"])
    first, second = (_rows(folder / "predictions.csv") for folder in folders)
    patients = [row["patient"] for row in first]
    assert patients == [row["patient"] for row in second]
    assert all(len(patient) == 17 and patient[0] == "p" for patient in patients)
    assert len(patients) == 2 * len(set(patients)) > 4
    done = primia("evaluate", f"run={folders[0]}", f"data.root={scans}", "device=cpu")
    assert done.returncode == 0, done.stderr
    again = {row["file"]: row["patient"] for row in _rows(
        folders[0] / "evaluation" / "scans" / "predictions.csv"
    )}  # fmt: skip
    assert {row["file"]: row["patient"] for row in first}.items() <= again.items()
    done = primia(
        "compare", f"runs=[{folders[0]},{folders[1]}]", "output=compared", "resamples=100"
    )
    assert done.returncode == 0, done.stderr
    done = primia("predict", f"run={folders[0]}", f"data.root={scans}", "device=cpu")
    assert done.returncode == 0, done.stderr
    _assert_named_nowhere(primia.folder, scans)


def _assert_named_nowhere(folder: Path, scans: Path) -> None:
    private = folder / ".primia" / "private"
    assert (private / "pseudonyms.key").is_file()
    seen = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or scans in path.parents or private in path.parents:
            continue
        seen += 1
        content = path.read_bytes()
        for patient in PATIENTS:
            assert patient.encode() not in content, path
        assert path.stat().st_mode & 0o077 == 0, path
    assert seen > 20
