"""McNemar's test and Cohen's kappa against published tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from primia_flwr.statistics.agreement import holm, kappa, mcnemar_test
from primia_flwr.statistics.arrays import IntArray


def readers(table: list[list[int]]) -> tuple[IntArray, IntArray]:
    """Return two readers' classes with this table of counts, first reader by row."""
    counts = np.array(table)
    rows, columns = np.indices(counts.shape)
    first = np.repeat(rows.ravel(), counts.ravel()).astype(np.int64)
    return first, np.repeat(columns.ravel(), counts.ravel()).astype(np.int64)


def test_agrestis_approval_ratings() -> None:
    # Agresti 1990, p. 350: 794, 150, 86, 570. z^2 = (86 - 150)^2 / 236 = 17.36; with continuity
    # correction (64 - 1)^2 / 236.
    first, second = readers([[570, 86], [150, 794]])
    found = mcnemar_test(np.ones(1600, np.int64), first, second, np.arange(1600))
    assert (found.both_right, found.both_wrong) == (794, 570)
    assert (found.only_first, found.only_second) == (150, 86)
    assert found.statistic == pytest.approx(63**2 / 236)
    assert found.p == pytest.approx(chi2.sf(63**2 / 236, 1))
    assert found.p == pytest.approx(4.115e-05, rel=1e-3)
    assert found.method.startswith("chi-squared")
    assert found.p_by_patient is None


def test_few_discordant_images_are_tested_exactly() -> None:
    # 1 against 8: 2 (1 + 9) / 2^9 = 20 / 512.
    first, second = readers([[5, 8], [1, 40]])
    found = mcnemar_test(np.ones(54, np.int64), first, second, np.arange(54))
    assert (found.method, found.statistic) == ("exact", None)
    assert found.p == pytest.approx(20 / 512)


@pytest.mark.parametrize(
    ("discordant", "method"), [(24, "exact"), (25, "chi-squared, continuity corrected")]
)
def test_exact_below_25(discordant: int, method: str) -> None:
    first, second = readers([[5, discordant - 3], [3, 40]])
    n = len(first)
    assert mcnemar_test(np.ones(n, np.int64), first, second, np.arange(n)).method == method


def test_readers_who_are_right_on_the_same_images_do_not_differ() -> None:
    same = np.array([0, 1, 1, 2])
    found = mcnemar_test(np.array([0, 1, 2, 2]), same, same, np.arange(4))
    assert (found.p, found.method) == (1, "exact")


def test_by_patient_copies_of_an_image_count_once() -> None:
    # Durkalski: sums per patient; each patient's sum is four times its image's, so
    # (4 * 7)^2 / (16 * 9) = 49 / 9 as without copies.
    first, second = readers([[5, 8], [1, 40]])
    copied = np.repeat(np.arange(54), 4)
    found = mcnemar_test(np.ones(216, np.int64), first[copied], second[copied], copied)
    assert found.p_by_patient == pytest.approx(chi2.sf(49 / 9, 1))
    assert found.p < found.p_by_patient, "as if independent it would look stronger"


def test_cohens_own_table() -> None:
    # Cohen 1960, Table 1 as counts of 200: observed 0.70, by chance 0.41.
    first, second = readers([[88, 10, 2], [14, 40, 6], [18, 10, 12]])
    found = kappa(first, second, 3)
    assert found.value == pytest.approx((0.70 - 0.41) / (1 - 0.41))
    # Fleiss, Cohen & Everitt 1969, eq. 13, written out.
    p = np.array([[88, 10, 2], [14, 40, 6], [18, 10, 12]]) / 200
    rows, columns, k = p.sum(axis=1), p.sum(axis=0), found.value
    own = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - k)) ** 2 for i in range(3))
    cross = (1 - k) ** 2 * sum(
        p[i, j] * (columns[i] + rows[j]) ** 2 for i in range(3) for j in range(3) if i != j
    )
    error = np.sqrt((own + cross - (k - 0.41 * (1 - k)) ** 2) / (1 - 0.41) ** 2 / 200)
    assert found.low == pytest.approx(k - 1.959964 * error)
    assert found.high == pytest.approx(k + 1.959964 * error)


def test_two_by_two_by_hand() -> None:
    first, second = readers([[20, 5], [10, 15]])
    assert kappa(first, second, 2).value == pytest.approx((0.7 - 0.5) / 0.5)


def test_kappa_is_undefined_where_both_know_one_class_only() -> None:
    found = kappa(np.zeros(9, np.int64), np.zeros(9, np.int64), 3)
    assert (found.value, found.note) == (None, "both put every image into the same class")


def test_perfect_agreement_has_no_interval() -> None:
    classes = np.array([0, 1, 2, 1])
    found = kappa(classes, classes, 3)
    assert (found.value, found.low) == (1, None)


def test_holm_by_hand_and_none_is_not_counted() -> None:
    # Sorted: .01 * 3, .02 * 2, .04 * 1, each at least the one before.
    assert holm([0.04, None, 0.01, 0.02]) == [
        pytest.approx(0.04), None, pytest.approx(0.03), pytest.approx(0.04)
    ]  # fmt: skip
    assert holm([None]) == [None]
    assert holm([]) == []
