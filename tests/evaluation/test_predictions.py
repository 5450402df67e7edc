from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import DataError
from tests import class_predictions

CLASSES = ("normal", "viral")


def _write(path: Path) -> Path:
    class_predictions.write(
        path, ["a.png", "b, c.png"], ["p1", ""], [0, 1], [[0.9, 0.1]] * 2, CLASSES
    )
    return path


def test_the_file_has_one_readable_line_per_image(tmp_path: Path) -> None:
    lines = _write(tmp_path / "predictions.csv").read_text().splitlines()
    assert lines == [
        "file,patient,label,prediction,p_normal,p_viral",
        "a.png,p1,normal,normal,0.9,0.1",
        '"b, c.png",,viral,normal,0.9,0.1',
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.csv"], "no partial file is left"


names = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(names, names, st.integers(0, 2), st.floats(0, 1)), max_size=12),
    st.lists(names.filter(bool), min_size=3, max_size=3, unique=True),
)
def test_what_is_written_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, int, float]],
    classes: list[str],
) -> None:
    path = tmp_path_factory.mktemp("p") / "predictions.csv"
    files, patients = [r[0] for r in rows], [r[1] for r in rows]
    labels = np.array([r[2] for r in rows], np.int64)
    probabilities = np.array([[r[3], 1 - r[3], 0.0] for r in rows]).reshape(-1, 3)
    class_predictions.write(path, files, patients, labels, probabilities, classes)
    read = class_predictions.read(path)
    assert list(read.files) == files
    assert list(read.patients) == patients
    assert read.names == tuple(classes)
    np.testing.assert_array_equal(read.labels, labels)
    np.testing.assert_array_equal(read.outputs, probabilities)


def test_lengths_and_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    with pytest.raises(DataError, match="2 files, 1 patients"):
        class_predictions.write(path, ["a", "b"], ["p"], [0, 1], [[1, 0]] * 2, CLASSES)
    with pytest.raises(DataError, match="outside 0 to 1"):
        class_predictions.write(path, ["a"], ["p"], [2], [[1, 0]], CLASSES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("file,label\n", r"columns file,label; expected file,patient,label,prediction"),
        ("file,patient,label,prediction\n", "one p_<class>"),
        ("file,patient,label,prediction,p_a\nx,y,b,a,1\n", r"line 2: .*a label among a"),
        ("file,patient,label,prediction,p_a\nx,y,a,a\n", "line 2: 4 columns instead of 5"),
        ("file,patient,label,prediction,p_a\nx,y,a,a,much\n", "line 2"),
    ],
)
def test_another_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        class_predictions.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        class_predictions.read(tmp_path / "none.csv")
