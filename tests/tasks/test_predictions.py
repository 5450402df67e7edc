"""Predictions of two runs are paired by file and by who is the same patient, not by names."""

from __future__ import annotations

import numpy as np
import pytest

from primia_flwr.errors import DataError
from primia_flwr.tasks.predictions import Predictions, by_file, difference_of


def made(files: str, patients: str) -> Predictions:
    count = len(files)
    outputs = np.full((count, 2), 0.5)
    return Predictions(tuple(files), tuple(patients), np.zeros(count, int), outputs, ("a", "b"))


def test_patients_are_numbered_in_the_order_of_the_files() -> None:
    assert made("abcd", "yxyz").numbered().patients == ("0000000", "0000001", "0000000", "0000002")
    assert (
        by_file("run", made("dcba", "zyxy")).patients == by_file("r", made("abcd", "ypyq")).patients
    )


def test_pseudonyms_of_two_keys_are_the_same_patients() -> None:
    first, second = made("abcd", "ppqr"), made("dcab", "3211")
    assert difference_of(by_file("first", first), by_file("second", second)) == ""


@pytest.mark.parametrize("patients", ["pqqr", "pqrs", "pppp"])
def test_other_patients_are_a_difference(patients: str) -> None:
    first, second = made("abcd", "ppqr"), made("abcd", patients)
    found = difference_of(by_file("first", first), by_file("second", second))
    assert found == "the same files of other patients"


def test_an_image_twice_is_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        by_file("run", made("aab", "pqr"))
