"""Whether an opened sum can be the sum of what honest sites send.

Nobody sees what a single site put into a sum, so a site that lies is bounded by what the sum may
be: each check here holds for every sum of honest sites, and nothing is used of a sum that fails
one. What a site can still do within these bounds is in docs/secure-aggregation.md.

A site that declines spoils the sum for all, so there is nothing to check in such a one: here each
site has sent an update, where there is one to send, with a weight of 1 to `max_weight`.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from primia_flwr.data.fingerprint.sums import Counts
from primia_flwr.errors import ProtocolError
from primia_flwr.messages.keys import DECLINED, INCOMING, LOCAL, RESTING, WEIGHT
from primia_flwr.messages.secure import VOLUME_COUNTS
from primia_flwr.secagg.payload.layout import Layout, Number
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.tasks.task import IMAGES, Task

_Sums = Mapping[str, Sequence[float]]

_TOP = 2**63 - 1
_ROUNDING = 1e-6  # of a word: what float64 makes of a word before it is rounded
_SLACK = 1 + 1e-9  # sums of pixels pass through float64 at the site
_ROUNDED = 2  # rounding to one digit makes a count at most 4/3, and at least 2/3 of it
_PASSES = 1e12  # over its images or batches in a round
_SECONDS = 1e9
_MOST: dict[str, float] = {
    DECLINED: 0,
    RESTING: 1,
    "stopped-early": 1,
    "examples": IMAGES,
    "batches": _PASSES,
    "images": _PASSES,
    "seconds": _SECONDS,
    **{f"{prefix}-examples": IMAGES for prefix in (INCOMING, LOCAL)},
    "label-counts": IMAGES,
    "side-counts": IMAGES,
    "num-val": IMAGES,
}  # fmt: skip
_TRAINING = (WEIGHT, RESTING, "batches", "images", "stopped-early", "seconds",
             "weighted-train-loss", *(f"{LOCAL}-{what}" for what in
             ("examples", "loss-sum")))  # fmt: skip


def check_plausible(
    layout: Layout,
    totals: Sequence[Vector],
    sums: _Sums,
    survivors: int,
    *,
    task: Task,
    noisy: bool = False,
) -> None:
    """Refuse a sum that no set of honest sites can have: noise, or the work of a site that lies.

    Parameters
    ----------
    layout : Layout
        Of what was added up.
    totals : sequence of ndarray
        The summed words, as `layout.encode` laid them out.
    sums : mapping of str to sequence of float
        What `layout.numbers_of` reads in them.
    survivors : int
        Sites in the sum, none of which declined.
    task : Task
        Whose counts travel beside the update.
    noisy : bool
        The pixel statistics are those of a run with differential privacy.

    Raises
    ------
    ProtocolError
        Naming the first such sum.
    """
    for number in layout.numbers:
        least, most = _range(number, layout, task)
        _check_range(number.name, sums[number.name], least * survivors, most * survivors)
    if layout.entries:
        _check_words(layout, totals[0], sums[WEIGHT][0], survivors)
    _check_validation(sums, task)
    if VOLUME_COUNTS in sums:
        _check_volumes(sums[VOLUME_COUNTS])
    if "levels" in sums:
        _check_noisy_pixels(sums) if noisy else _check_pixels(sums, task)


def _range(number: Number, layout: Layout, task: Task) -> tuple[float, float]:
    """Return the least and the most that one site sends of a number.

    Where nothing else is known: what the encoding lets it send.
    """
    prefix, _, name = number.name.partition("-")
    sums = {s.name: s.most for s in task.sums(1)} if prefix in (INCOMING, LOCAL) else {}
    counted = name in sums
    trained = number.name in _TRAINING or (counted and prefix == LOCAL)
    if not layout.entries and trained:
        return 0, 0
    if number.name == WEIGHT:
        return 1, layout.max_weight
    encodable = _TOP // layout.num_clients * (number.step or 1)
    most = sums[name] if counted else _MOST.get(number.name, encodable)
    return 0, min(most, encodable)


def _check_range(name: str, values: Sequence[float], least: float, most: float) -> None:
    for value in values:
        if not least <= value <= most:
            raise _implausible(f"the sum of {name} is {value:g}", f"{least:g} to {most:g}")


def _check_words(layout: Layout, words: Vector, weight_sum: float, survivors: int) -> None:
    """Insist that no entry of the mean is beyond `clip` by more than the fixed point's error.

    An honest site of weight w sends at most max_encoded * w / max_weight + 1 / 2 in each word.
    """
    signed = words.view(np.int32)
    largest = max(int(signed.max()), -int(signed.min()))  # |-2^31| is no int32
    share = weight_sum / layout.max_weight
    if largest > layout.fixed_point.max_encoded * share + survivors * (0.5 + _ROUNDING):
        mean = largest * layout.fixed_point.step / share
        raise _implausible(
            f"an entry of the mean update is {mean:g} in magnitude", f"at most clip={layout.clip:g}"
        )


def _check_validation(sums: _Sums, task: Task) -> None:
    for prefix in (INCOMING, LOCAL):
        examples = sums.get(f"{prefix}-examples", (0,))[0]
        counts = {s.name: sums.get(f"{prefix}-{s.name}", ()) for s in task.sums(1)}
        wrong = task.check(counts, examples)
        if wrong:
            raise _implausible(f"{prefix}-{wrong}", "counts of the images that were validated")
        loss = sums.get(f"{prefix}-loss-sum", (0,))[0]
        if loss > 0 and not examples:
            raise _implausible(f"the sum of {prefix}-loss-sum over no image is {loss:g}", "0")
    own, arrived = (sums.get(f"{prefix}-examples", (0,))[0] for prefix in (LOCAL, INCOMING))
    if own > arrived:
        raise _implausible(
            f"the sum of {LOCAL}-examples is {own:g}",
            f"at most {arrived:g}: a site validates its own model on the images on which it "
            "validated the one that arrived",
        )


def _check_pixels(sums: _Sums, task: Task) -> None:
    """Check what holds for the pixels of every set of images, and so for sums over sites."""
    count, pixels = sums["count"][0], _channels(sums)
    for level, square in pixels:
        if level > 255 * count * _SLACK or square > 255 * level * _SLACK:
            raise _implausible("pixels above 255 on average", "0 to 255")
        if level * level > square * count * _SLACK:  # Cauchy-Schwarz
            raise _implausible("pixels with a negative variance", "0 or more")
    by_label, by_side = task.labelled(sums["label-counts"]), sum(sums["side-counts"])
    if max(by_label, by_side) > _ROUNDED * min(by_label, by_side):
        raise _implausible(
            f"{by_label:g} images by label and {by_side:g} by side", "as many, but for rounding"
        )
    if by_label > _ROUNDED * count:
        raise _implausible(f"{by_label:g} images of {count:g} pixels", "a pixel or more of each")


def _check_volumes(vector: Sequence[float]) -> None:
    try:
        Counts.read(vector)
    except ValueError as error:
        raise ProtocolError(
            f"counts of volumes: {error}: sites were told different things, or one sent rubbish"
        ) from None


def _check_noisy_pixels(sums: _Sums) -> None:
    """Check what a site cuts its noisy sums to: those over units, each of numbers in [0, 1]."""
    units = sums["count"][0]
    for level, square in _channels(sums):
        if level > 255 * units * _SLACK or square > 255**2 * units * _SLACK:
            raise _implausible("pixels above 255 on average", "0 to 255")
    _check_range("label-counts", sums["label-counts"], 0, units)
    for name in ("side-counts", "num-val"):
        _check_range(name, sums[name], 0, 0)


def _channels(sums: _Sums) -> Iterator[tuple[float, float]]:
    return zip(sums["levels"], sums["squared-levels"], strict=True)


def _implausible(found: str, expected: str) -> ProtocolError:
    return ProtocolError(
        f"{found}; expected {expected}: sites were told different things, or one sent rubbish"
    )
