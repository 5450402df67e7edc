"""McNemar's test and Cohen's kappa by patient, and against published tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.inter_rater import cohens_kappa

from primia_flwr.statistics.agreement import holm, kappa, mcnemar_test
from primia_flwr.statistics.arrays import IntArray


def readers(table: list[list[int]]) -> tuple[IntArray, IntArray]:
    """Return two readers' classes with this table of counts, first reader by row."""
    counts = np.array(table)
    rows, columns = np.indices(counts.shape)
    first = np.repeat(rows.ravel(), counts.ravel()).astype(np.int64)
    return first, np.repeat(columns.ravel(), counts.ravel()).astype(np.int64)


def test_agrestis_approval_ratings() -> None:
    # Agresti 1990, p. 350: 794, 150, 86, 570. 150 against 86 of 236, binomial, half of the chance
    # of 150 itself.
    first, second = readers([[570, 86], [150, 794]])
    found = mcnemar_test(np.ones(1600, np.int64), first, second, np.arange(1600))
    assert (found.both_right, found.both_wrong) == (794, 570)
    assert (found.only_first, found.only_second, found.differing_patients) == (150, 86, 236)
    assert found.p == pytest.approx(2 * binom.sf(150, 236, 0.5) + binom.pmf(150, 236, 0.5))
    assert found.p == pytest.approx(3.1e-05, rel=0.1)


def test_few_discordant_images_by_hand() -> None:
    # 1 against 8: 2 (1 + 9 / 2) / 2^9 = 11 / 512.
    first, second = readers([[5, 8], [1, 40]])
    found = mcnemar_test(np.ones(54, np.int64), first, second, np.arange(54))
    assert found.p == pytest.approx(11 / 512)
    assert found.smallest_p == pytest.approx(1 / 512)


@pytest.mark.parametrize("n", [1, 2, 12, 13, 20, 50, 5000])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_equally_many_on_either_side_are_no_difference(n: int, images: int) -> None:
    labels = np.zeros(4 * n * images, np.int64)
    first, second = labels.copy(), labels.copy()
    second[: n * images], first[n * images : 2 * n * images] = 1, 1
    patients = np.repeat(np.arange(4 * n), images)
    assert mcnemar_test(labels, first, second, patients).p == pytest.approx(1)


def test_readers_who_are_right_on_the_same_images_do_not_differ() -> None:
    same = np.array([0, 1, 1, 2])
    found = mcnemar_test(np.array([0, 1, 2, 2]), same, same, np.arange(4))
    assert (found.p, found.smallest_p, found.differing_patients) == (1, 1, 0)


def test_copies_of_an_image_count_once() -> None:
    first, second = readers([[5, 8], [1, 40]])
    copied = np.repeat(np.arange(54), 4)
    found = mcnemar_test(np.ones(216, np.int64), first[copied], second[copied], copied)
    assert found.only_first == 4
    assert found.p == pytest.approx(11 / 512), "as without the copies"


def test_the_headline_holds_where_images_of_a_patient_are_alike() -> None:
    # 60 patients of 4 images; who is right is a coin a patient. By image this was rejected in 24 %.
    rng = np.random.default_rng(0)
    patients, repeats, rejected = np.repeat(np.arange(60), 4), 600, 0
    labels = np.zeros(240, np.int64)
    for _ in range(repeats):
        differ = (rng.random(60) < 0.3)[patients]
        side = rng.choice([-1, 1], 60)[patients]
        first, second = ((differ & (side == one)).astype(np.int64) for one in (-1, 1))
        rejected += mcnemar_test(labels, first, second, patients).p < 0.05
    assert 0.03 <= rejected / repeats <= 0.07


def test_a_patient_with_most_images_does_not_decide() -> None:
    # 30 images of one patient and one image of each of 6: the others agree with it in all ways.
    labels, patients = np.zeros(36, np.int64), np.repeat(np.arange(7), [30, *[1] * 6])
    other = np.ones(36, np.int64)
    found = mcnemar_test(labels, labels, other, patients)
    assert (found.only_first, found.p) == (36, pytest.approx(2**-7))
    other[30:33] = 0  # three of the six have both right
    assert mcnemar_test(labels, labels, other, patients).p == pytest.approx(2**-4)
    alone = mcnemar_test(labels[:30], labels[:30], other[:30], patients[:30])
    assert (alone.p, alone.smallest_p) == (0.5, 0.5), "one patient proves nothing"


def test_cohens_own_table() -> None:
    # Cohen 1960, Table 1 as counts of 200: observed 0.70, by chance 0.41.
    first, second = readers([[88, 10, 2], [14, 40, 6], [18, 10, 12]])
    found = kappa(first, second, 3, np.arange(200))
    assert found.value == pytest.approx((0.70 - 0.41) / (1 - 0.41))
    # Fleiss, Cohen & Everitt 1969, eq. 13, written out.
    p = np.array([[88, 10, 2], [14, 40, 6], [18, 10, 12]]) / 200
    rows, columns, k = p.sum(axis=1), p.sum(axis=0), found.value
    own = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - k)) ** 2 for i in range(3))
    cross = (1 - k) ** 2 * sum(
        p[i, j] * (columns[i] + rows[j]) ** 2 for i in range(3) for j in range(3) if i != j
    )
    error = np.sqrt((own + cross - (k - 0.41 * (1 - k)) ** 2) / (1 - 0.41) ** 2 / 199)
    reach = 1.971957 * error / (1 - k**2)  # Student's quantile of 199 degrees, on Fisher's scale
    assert found.low == pytest.approx(np.tanh(np.arctanh(k) - reach))
    assert found.high == pytest.approx(np.tanh(np.arctanh(k) + reach))
    known = cohens_kappa(np.array([[88, 10, 2], [14, 40, 6], [18, 10, 12]]))
    assert (found.value, found.low) == pytest.approx((known.kappa, known.kappa_low), abs=8e-3)


def test_copies_of_images_leave_the_interval_of_kappa_as_it_is() -> None:
    first, second = readers([[88, 10, 2], [14, 40, 6], [18, 10, 12]])
    once = kappa(first, second, 3, np.arange(200))
    copied = np.repeat(np.arange(200), 4)
    several = kappa(first[copied], second[copied], 3, copied)
    assert (several.low, several.high) == pytest.approx((once.low, once.high))
    as_if_independent = kappa(first[copied], second[copied], 3, np.arange(800))
    assert as_if_independent.low is not None
    assert once.low is not None
    assert as_if_independent.low > once.low + 0.04


def test_one_patient_with_nearly_all_images_has_no_interval_of_kappa() -> None:
    first, second = readers([[88, 10, 2], [14, 40, 6], [18, 10, 12]])
    patients = np.minimum(np.arange(200), 5)
    assert kappa(first, second, 3, patients).low is None


def test_two_by_two_by_hand() -> None:
    first, second = readers([[20, 5], [10, 15]])
    assert kappa(first, second, 2, np.arange(50)).value == pytest.approx((0.7 - 0.5) / 0.5)


def test_kappa_is_undefined_where_both_know_one_class_only() -> None:
    found = kappa(np.zeros(9, np.int64), np.zeros(9, np.int64), 3, np.arange(9))
    assert (found.value, found.note) == (None, "both put every image into the same class")


def test_perfect_agreement_has_no_interval() -> None:
    classes = np.array([0, 1, 2, 1])
    found = kappa(classes, classes, 3, np.arange(4))
    assert (found.value, found.low) == (1, None)


def test_complete_disagreement_has_no_interval() -> None:
    classes = np.array([0, 1, 0, 1])
    found = kappa(classes, 1 - classes, 2, np.arange(4))
    assert (found.value, found.low) == (-1, None)


def test_holm_by_hand_and_none_is_not_counted() -> None:
    # Sorted: .01 * 3, .02 * 2, .04 * 1, each at least the one before.
    assert holm([0.04, None, 0.01, 0.02]) == [
        pytest.approx(0.04), None, pytest.approx(0.03), pytest.approx(0.04)
    ]  # fmt: skip
    assert holm([None]) == [None]
    assert holm([]) == []
