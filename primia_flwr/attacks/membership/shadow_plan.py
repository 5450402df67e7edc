"""Which patients each shadow model is trained on: random parts, a patient never in two.

The patients are dealt at random into k parts, class by class, and k shadow models are trained on
one part each; then they are dealt anew. So every patient is in one of k models, the size of a part
is that of the attacked model's training set as nearly as the images allow, and a longer plan begins
with the shorter one.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from primia_flwr.attacks.membership.lira import BoolArray
from primia_flwr.data.seeding import shuffled


def parts_for(*, members: int, pool: int) -> int:
    """Return k: parts of `pool` images that are about as large as the target's training set.

    At least 2: the models that left an image out are what the attack needs.
    """
    return max(2, round(pool / max(members, 1)))


def plan_shadows(
    patients: Sequence[str], labels: Sequence[int], *, parts: int, shadows: int, seed: int
) -> BoolArray:
    """Deal the patients of a pool of N images to shadow models.

    `patients`, `labels`: patient and class of every image. `parts`: k, at least 2. `shadows`: S, at
    least 1. `seed`: of the dealing; whether a patient is a member has no part in it.

    Returns
    -------
    (S, N) bool
        Whether an image is in a shadow model's training.
    """
    starts = range(0, shadows, parts)
    part_of = [_deal(patients, labels, parts, ("shadow", seed, start)) for start in starts]
    return np.stack([part_of[i // parts] == i % parts for i in range(shadows)])


def _deal(
    patients: Sequence[str], labels: Sequence[int], parts: int, key: tuple[object, ...]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the part of every image; the classes of a patient go by most images."""
    votes: dict[str, Counter[int]] = {}
    for patient, label in zip(patients, labels, strict=True):
        votes.setdefault(patient, Counter())[int(label)] += 1
    order = shuffled(votes, *key)
    order.sort(key=lambda patient: max(votes[patient], key=lambda c: (votes[patient][c], -c)))
    part = {patient: index % parts for index, patient in enumerate(order)}
    return np.array([part[patient] for patient in patients], np.int64)
