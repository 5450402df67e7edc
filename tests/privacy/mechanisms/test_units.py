from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from primia_flwr.errors import ConfigError, DataError
from primia_flwr.privacy.mechanisms.randomness import keyed_generator
from primia_flwr.privacy.mechanisms.units import units_of

KEY = b"sixteen bytes .."
PATIENTS = ("b", "a", "b", "c", "b")


def test_by_hand() -> None:
    by_image = units_of("image", PATIENTS)
    assert len(by_image) == 5
    assert by_image.views(np.array([0, 3]), views=2).tolist() == [0, 0, 3, 3]
    by_patient = units_of("patient", PATIENTS)
    assert len(by_patient) == 3
    assert by_patient.images.tolist() == [1, 0, 2, 4, 3]
    assert by_patient.starts.tolist() == [0, 1, 4, 5]


@given(
    patients=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40),
    views=st.integers(1, 7),
)
def test_each_unit_shows_its_own_images_and_each_nearly_equally_often(
    patients: list[str], views: int
) -> None:
    units = units_of("patient", patients)
    assert sorted(units.images.tolist()) == list(range(len(patients)))
    chosen = units.views(np.arange(len(units)), views=views).reshape(len(units), views)
    names = sorted(set(patients))
    for name, row in zip(names, chosen, strict=True):
        assert {patients[i] for i in row} == {name}
        counts = Counter(row.tolist())
        assert len(counts) == min(views, patients.count(name))
        assert max(counts.values()) - min(counts.values()) <= 1


def test_every_unit_comes_with_the_sampling_rate_and_independently() -> None:
    units = units_of("image", ["p"] * 40)
    generator = keyed_generator(KEY)
    drawn = np.zeros((4000, 40))
    for row in drawn:
        row[units.sample(sampling_rate=0.3, generator=generator)] = 1
    # Each unit: binomial(4000, 0.3), 1200 +- 29; the size: binomial(40, 0.3), variance 8.4.
    assert np.abs(drawn.sum(axis=0) - 1200).max() < 4 * 29
    assert drawn.sum(axis=1).var() == pytest.approx(8.4, rel=4 * np.sqrt(2 / 4000))
    sizes = np.bincount(drawn.sum(axis=1).astype(int), minlength=41)[6:19]
    expected = stats.binom.pmf(np.arange(6, 19), 40, 0.3)
    assert stats.chisquare(sizes, expected / expected.sum() * sizes.sum()).pvalue > 0.01


def test_all_images_of_a_patient_have_the_same_chance() -> None:
    units = units_of("patient", PATIENTS)
    generator = keyed_generator(KEY)
    seen = np.concatenate(
        [units.views(np.array([1]), views=1, generator=generator) for _ in range(3000)]
    )
    assert stats.chisquare([np.count_nonzero(seen == i) for i in (0, 2, 4)]).pvalue > 0.01


def test_nobody_may_come() -> None:
    units = units_of("image", PATIENTS)
    drawn = units.sample(sampling_rate=1e-12)
    assert drawn.size == 0
    assert units.views(drawn, views=3).shape == (0,)


def test_rate_one_draws_all() -> None:
    assert units_of("image", PATIENTS).sample(sampling_rate=1.0).tolist() == [0, 1, 2, 3, 4]


def test_draws_differ_from_call_to_call() -> None:
    units = units_of("image", ["p"] * 256)
    assert len({units.sample(sampling_rate=0.5).tobytes() for _ in range(50)}) == 50


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="sampling_rate="):
        units_of("image", PATIENTS).sample(sampling_rate=rate)


def test_no_views_are_refused() -> None:
    with pytest.raises(ConfigError, match="views=0"):
        units_of("image", PATIENTS).views(np.array([0]), views=0)


def test_other_units_and_missing_patients_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.unit=hospital; expected one of image, pat"):
        units_of("hospital", PATIENTS)
    with pytest.raises(DataError, match=r"patient of 1 image.*number 1;.*privacy\.unit=image"):
        units_of("patient", ["a", "", "b"])
    with pytest.raises(DataError, match=r"patient of 2 image.*number 0;.*privacy\.unit=image"):
        units_of("patient", ["image:ill/1.png", "p", "image:ill/2.png"])
    assert len(units_of("image", ["image:ill/1.png", "image:ill/2.png"])) == 2
    with pytest.raises(DataError, match="no training images"):
        units_of("patient", [])


def test_who_shares_a_file_is_one_unit() -> None:
    patients = ("b", "a", "c", "d", "e")
    together = units_of("patient", patients, ("1", "2", "1", "3", "2"))
    # a and e share 2, b and c share 1: units {a, e}, {b, c}, {d}, in the order of first names
    assert together.images.tolist() == [1, 4, 0, 2, 3]
    assert together.starts.tolist() == [0, 2, 4, 5]
    chain = units_of("patient", ("a", "b", "b", "c", "d"), ("1", "1", "2", "2", "3"))
    assert [len(chain), chain.starts.tolist()] == [2, [0, 4, 5]]
    images = units_of("image", patients, ("1", "2", "1", "3", "2"))
    assert (len(images), images.images.tolist()) == (3, [0, 2, 1, 4, 3])
    apart = units_of("patient", PATIENTS, ("1", "2", "3", "4", "5"))
    assert apart.images.tolist() == units_of("patient", PATIENTS).images.tolist()
    # a patient who is called like a file is nobody else's
    assert len(units_of("patient", ("1", "2"), ("2", "1"))) == 2
