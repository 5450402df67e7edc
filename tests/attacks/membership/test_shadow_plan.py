"""Parts of the attacker's images: by patient, random, and the same again when more are asked."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.attacks.membership.shadow_plan import parts_for, plan_shadows


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=80),
    st.integers(2, 5),
    st.integers(1, 12),
    st.integers(0, 99),
)
def test_a_patient_is_in_one_of_k_models_with_all_images(
    rows: list[tuple[int, int]], parts: int, shadows: int, seed: int
) -> None:
    patients = [f"p{number}" for number, _ in rows]
    labels = [label for _, label in rows]
    inside = plan_shadows(patients, labels, parts=parts, shadows=shadows, seed=seed)
    assert inside.shape == (shadows, len(rows))
    for patient in set(patients):
        columns = inside[:, [p == patient for p in patients]]
        assert (columns == columns[:, :1]).all(), "a patient's images stay together"
    for start in range(0, shadows - parts + 1, parts):
        assert (inside[start : start + parts].sum(axis=0) == 1).all()
    longer = plan_shadows(patients, labels, parts=parts, shadows=shadows + 3, seed=seed)
    assert (longer[:shadows] == inside).all()


def test_every_part_has_its_share_of_every_class() -> None:
    patients = [f"p{i}" for i in range(90)]
    labels = [0] * 30 + [1] * 60
    inside = plan_shadows(patients, labels, parts=3, shadows=3, seed=4)
    for row in inside:
        assert (row[:30].sum(), row[30:].sum()) == (10, 20)


def test_deals_and_seeds_differ() -> None:
    patients, labels = [f"p{i}" for i in range(40)], [0] * 40
    inside = plan_shadows(patients, labels, parts=2, shadows=4, seed=1)
    assert (inside[0] != inside[1]).all()
    assert (inside[0] != inside[2]).any()
    assert (inside[0] != plan_shadows(patients, labels, parts=2, shadows=1, seed=2)[0]).any()
    assert np.array_equal(inside, plan_shadows(patients, labels, parts=2, shadows=4, seed=1))


def test_parts_are_about_as_large_as_the_training_set_but_at_most_half() -> None:
    assert parts_for(members=3500, pool=4600) == 2
    assert parts_for(members=500, pool=5000) == 10
    assert parts_for(members=0, pool=4) == 4
