"""A site that lies in a sum: what is refused, and what honest sites send always passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.config.experiment.data import VolumesConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.data.fingerprint.sums import counts_of
from primia_flwr.errors import ProtocolError
from primia_flwr.messages.secure import report_layout, statistics_layout
from primia_flwr.secagg.payload.layout import Layout, Number, round_to_digits
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.tasks.classification import TASK
from strategies.aggregators.secure.plausibility import check_plausible
from tests.secagg.federation import Federation, members

Values = Mapping[str, Sequence[float]]

ENTRIES, CLIP, MOST = 4, 32.0, 10_000
DECLINED, WEIGHT = "declined", "weight"
EXPERIMENT = Experiment()
VALIDATED: dict[str, Sequence[float]] = {
    "incoming-examples": [10], "incoming-loss-sum": [7.5], "incoming-confusion": [4, 1, 2, 3],
}  # fmt: skip
HONEST: Values = {
    WEIGHT: [1200], "examples": [1200], "images": [2400], "batches": [76], "seconds": [10.0],
    "weighted-train-loss": [600.0], **VALIDATED,
}  # fmt: skip


def report(*, entries: int = ENTRIES, weighting: str = "images") -> Layout:
    strategy = StrategyConfig(weighting=weighting)
    layout = report_layout(replace(EXPERIMENT, strategy=strategy), entries, 2)
    if any(number.name == DECLINED for number in layout.numbers):
        return layout
    return replace(layout, numbers=[*layout.numbers, Number(DECLINED)])


def statistics() -> Layout:
    return statistics_layout(EXPERIMENT, 2)


def claimed(
    layout: Layout, words: Sequence[int] = (0,) * ENTRIES, **numbers: Sequence[int]
) -> list[Vector]:
    """Return a payload of any words at all; underscores stand for hyphens."""
    given = {name.replace("_", "-"): values for name, values in numbers.items()}
    table = [x for n in layout.numbers for x in given.get(n.name, (0,) * n.size)]
    vectors: list[Vector] = [np.array(words, np.int32).view(np.uint32)] if layout.entries else []
    return [*vectors, np.array(table, np.int64).view(np.uint64)]


def added(payloads: Sequence[Sequence[Vector]]) -> list[Vector]:
    return [np.sum(column, axis=0, dtype=column[0].dtype) for column in zip(*payloads, strict=True)]


def check(layout: Layout, payloads: Sequence[Sequence[Vector]], **kwargs: Any) -> None:
    totals = added(payloads)
    check_plausible(layout, totals, layout.numbers_of(totals), len(payloads), **kwargs, task=TASK)


def two_honest(layout: Layout, size: float = 1e-3, weight: int = 1200) -> list[list[Vector]]:
    return [layout.encode(np.full(layout.entries, size), {**HONEST, WEIGHT: [weight]})] * 2


def implausible(match: str) -> pytest.RaisesExc[ProtocolError]:
    return pytest.raises(ProtocolError, match=f"{match}.*or one sent rubbish")


# --- The update and its weight -----------------------------------------------------------------


def test_a_site_that_claims_a_negative_weight_over_the_whole_protocol() -> None:
    # Two sites of weight 1,200; the third says -2,399, so that the sum is 1, and a mean of 50,000.
    layout, everyone = report(), members(3)
    federation = Federation(everyone)
    step = layout.fixed_point.step
    evil = claimed(layout, [round(50_000 / MOST / step)] * ENTRIES, weight=[-2_399])
    payloads = dict(zip(everyone, [*two_honest(layout), evil], strict=True))
    federation.shares(federation.keys())
    for name, request in federation.server.begin_sum(b"told").items():
        vectors = [vector.copy() for vector in payloads[name]]
        federation.clients[name].mask(request, vectors, transcript=b"told", bases=[b"base"])
        federation.server.add_vectors(name, vectors)
    for name, unmask in federation.server.unmask_requests().items():
        reply = federation.clients[name].release(unmask, federation.journals[name])
        federation.server.add_release(name, reply)
    totals = federation.server.unmask()
    sums = layout.numbers_of(totals)
    assert sums[WEIGHT] == [1]
    mean = layout.mean_of(totals, 1)
    assert mean is not None
    assert mean.max() > 1000 * CLIP
    with implausible("the sum of weight is 1; expected 3 to 30000"):
        check_plausible(layout, totals, sums, 3, task=TASK)


@pytest.mark.parametrize(
    ("weight", "good"), [(-2_398, False), (-2_397, True), (27_600, True), (27_601, False)]
)
def test_the_sum_of_weights_is_one_that_three_sites_can_have(weight: int, good: bool) -> None:
    # 2,400 of the two others: 2 and 3, 30,000 and 30,001
    layout = report()
    payloads = [*two_honest(layout, size=1e-9), claimed(layout, weight=[weight])]
    if good:
        check(layout, payloads)
    else:
        with implausible("the sum of weight is"):
            check(layout, payloads)


def test_the_lowest_sum_of_weights_with_a_huge_vector() -> None:
    # The sum of weights is 3, so a word of the sum is at most max_encoded * 3 / 10,000 + 3 / 2.
    layout = report()
    most = int(layout.fixed_point.max_encoded * 3 / MOST + 1.5)
    others = two_honest(layout, size=0.0)
    for sign in (1, -1):
        check(layout, [*others, claimed(layout, [0, sign * most, 0, 0], weight=[-2_397])])
        with implausible("an entry of the mean update is 32.0.* in magnitude; expected at most"):
            beyond = [0, 0, sign * (most + 1), 0]
            check(layout, [*others, claimed(layout, beyond, weight=[-2_397])])


@pytest.mark.parametrize("word", [-(2**31), 2**31 - 1, 0x7FC00000])
def test_words_without_a_magnitude_or_that_read_as_nan(word: int) -> None:
    # -2^31 has no absolute value in int32; the others read as NaN in float32
    layout = report()
    with implausible("an entry of the mean update"):
        check(layout, [*two_honest(layout), claimed(layout, [0, 0, 0, word], weight=[1])])


def test_a_mean_at_clip_is_honest() -> None:
    layout = report()
    for size in (CLIP, -CLIP):
        check(layout, [*two_honest(layout, size=size), two_honest(layout, size=size)[0]])


def test_sites_that_weigh_alike_weigh_one_each() -> None:
    layout = report(weighting="equal")
    honest = two_honest(layout, weight=1)
    check(layout, [*honest, claimed(layout, weight=[1])])
    for weight in (-1, 0, 2):
        with implausible(f"the sum of weight is {weight + 2}; expected 3 to 3"):
            check(layout, [*honest, claimed(layout, weight=[weight])])


def test_a_private_run_has_a_weight_of_one_each_and_nothing_else() -> None:
    layout = Layout(ENTRIES, [Number(WEIGHT)], CLIP, 1, 3)
    honest = layout.encode(np.full(ENTRIES, 0.5), {WEIGHT: [1]})
    check(layout, [honest] * 3)
    with implausible("the sum of weight is 2; expected 3 to 3"):
        check(layout, [honest, honest, claimed(layout)])


# --- Sites that declined -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [-1, 1, 3])
def test_a_sum_in_which_a_site_declined_is_none(count: int) -> None:
    layout = report()
    with implausible(f"the sum of declined is {count}; expected 0 to 0"):
        check(layout, [*two_honest(layout), claimed(layout, declined=[count], weight=[1])])


def test_a_sum_without_weight_has_no_mean() -> None:
    layout = report()
    with implausible("the sum of weight is 0; expected 3 to 30000"):
        check(layout, [claimed(layout, [0, 1, 0, 0])] * 3)


# --- The other numbers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"resting": [4]}, "the sum of resting is 4; expected 0 to 3"),
        ({"resting": [-1]}, "the sum of resting is -1"),
        ({"stopped_early": [4]}, "the sum of stopped-early is 4; expected 0 to 3"),
        ({"examples": [-2401]}, "the sum of examples is -1"),
        ({"examples": [3 * 10**9]}, "the sum of examples is 3e.09; expected 0 to 3e.09"),
        ({"images": [-4801]}, "the sum of images is -1"),
        ({"batches": [4 * 10**12]}, "the sum of batches is 4e.12"),
        ({"seconds": [-(2**25)]}, "the sum of seconds is -12"),
        ({"seconds": [2**62]}, "the sum of seconds is 4.39805e.12; expected 0 to 3e.09"),
        ({"weighted_train_loss": [-(2**31)]}, "the sum of weighted-train-loss is -848"),
        # a negative count that the others' counts hide: the sum of all is as it should be
        ({"incoming_confusion": [-9, 9, 0, 0]}, "the sum of incoming-confusion is -1"),
        ({"incoming_examples": [1]}, "incoming-confusion counts 20 images, not the 21"),
        ({"incoming_confusion": [1, 0, 0, 0]}, "incoming-confusion counts 21 images, not the 20"),
        ({"incoming_loss_sum": [-(2**24)]}, "the sum of incoming-loss-sum is -1"),
        ({"local_loss_sum": [1]}, "the sum of local-loss-sum over no image is"),
        (
            {"local_examples": [21], "local_confusion": [21, 0, 0, 0]},
            "the sum of local-examples is 21; expected at most 20",
        ),
    ],
)
def test_numbers_that_no_honest_sites_have(numbers: dict[str, list[int]], match: str) -> None:
    layout = report()
    with implausible(match):
        check(layout, [*two_honest(layout), claimed(layout, **{"weight": [1], **numbers})])


@pytest.mark.parametrize("name", ["weight", "resting", "images", "seconds", "local_loss_sum"])
def test_a_validation_has_nothing_of_a_training(name: str) -> None:
    layout = report(entries=0)
    honest = [layout.encode(None, {"examples": [10], **VALIDATED})] * 2
    check(layout, [*honest, claimed(layout)])
    with implausible(f"the sum of {name.replace('_', '-')} is .*; expected 0 to 0"):
        check(layout, [*honest, claimed(layout, **{name: [1]})])


# --- Pixel statistics --------------------------------------------------------------------------

# Two images of 2 pixels each, of levels 0, 0, 255 and 255
PIXELS: Values = {
    "count": [4], "levels": [510], "squared-levels": [130_050], "label-counts": [1, 1],
    "side-counts": [0, 0, 2, 0, 0, 0, 0], "num-val": [1],
}  # fmt: skip


def pixels(**numbers: Sequence[int]) -> list[list[Vector]]:
    layout = statistics()
    return [*[layout.encode(None, PIXELS)] * 2, claimed(layout, **numbers)]


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"count": [-9]}, "the sum of count is -1"),
        ({"count": [-5]}, "pixels above 255 on average"),  # 3 of 1,020 levels
        ({"squared_levels": [1]}, "pixels above 255 on average"),  # 260,100 are 255 * 1,020
        ({"squared_levels": [-130_051]}, "pixels with a negative variance"),  # 1,020^2 / 8
        ({"label_counts": [-3, 3]}, "the sum of label-counts is -1"),
        ({"label_counts": [3, 2]}, "9 images by label and 4 by side"),
        ({"side_counts": [0, 0, -3, 0, 0, 0, 0]}, "4 images by label and 1 by side"),
        ({"num_val": [-3]}, "the sum of num-val is -1"),
    ],
)
def test_pixels_that_no_images_have(numbers: dict[str, list[int]], match: str) -> None:
    check(statistics(), pixels())
    check(statistics(), pixels(squared_levels=[-130_050]))  # all levels alike
    with implausible(match):
        check(statistics(), pixels(**numbers))


def test_more_images_than_pixels() -> None:
    images = {"label_counts": [14, 0], "side_counts": [0, 0, 14, 0, 0, 0, 0]}
    with implausible("18 images of 8 pixels"):
        check(statistics(), pixels(**images))


def test_counts_of_volumes_that_no_volumes_have() -> None:
    data = replace(EXPERIMENT.data, layout="msd", volumes=VolumesConfig(fingerprint=True))
    layout = statistics_layout(replace(EXPERIMENT, data=data), 2)
    zeros = np.zeros((2, 2, 2), np.float32)
    volume = counts_of(
        zeros, zeros.astype(np.uint8), (1, 1, 1), outputs=2, levels=(0.0, 1.0)
    ).vector()
    honest = [layout.encode(None, {**PIXELS, "volume-counts": volume})] * 2
    check(layout, [*honest, layout.encode(None, {**PIXELS, "volume-counts": volume})])
    with implausible(r"3 spacings along z of 4 volume\(s\)"):
        lie = [volume[0] + 1, *volume[1:]]
        check(layout, [*honest, layout.encode(None, {**PIXELS, "volume-counts": lie})])


def test_noisy_statistics_are_checked_for_what_noise_leaves() -> None:
    # With noise a variance may be negative and classes need not add up; sides are not told.
    layout = statistics()
    noisy: Values = {"count": [3], "levels": [765], "squared-levels": [0], "label-counts": [3, 3]}
    check(layout, [layout.encode(None, noisy)] * 3, noisy=True)
    cases: list[tuple[Values, str]] = [
        ({"levels": [766]}, "pixels above 255"),
        ({"squared-levels": [3 * 65_025 + 1]}, "pixels above 255"),
        ({"label-counts": [4, 0]}, "the sum of label-counts is 12; expected 0 to 9"),
        ({"side-counts": [1, 0, 0, 0, 0, 0, 0]}, "the sum of side-counts is 3; expected 0 to 0"),
        ({"num-val": [1]}, "the sum of num-val is 3; expected 0 to 0"),
    ]
    for wrong, match in cases:
        with implausible(match):
            check(layout, [layout.encode(None, {**noisy, **wrong})] * 3, noisy=True)


# --- Honest sites ------------------------------------------------------------------------------

DIGITS = st.integers(0, 3)
SEVERAL = st.integers(2, 3)


def validation(draw: Any, prefix: str, images: Sequence[int]) -> dict[str, list[float]]:
    """Draw a verdict on so many images of each of two classes."""
    first, second = (draw(st.integers(0, of)) for of in images)
    if not sum(images):
        return {}
    return {
        f"{prefix}-examples": [sum(images)],
        f"{prefix}-loss-sum": [draw(st.floats(0, 1e9))],
        f"{prefix}-confusion": [first, images[0] - first, second, images[1] - second],
    }


@st.composite
def reports(draw: Any, layout: Layout) -> list[Vector]:
    """Draw what an honest site sends."""
    held = [draw(st.integers(0, 500)) for _ in range(2)]
    values = validation(draw, "incoming", held)
    if not layout.entries:
        return layout.encode(None, {"examples": [sum(held)], **values})
    if draw(st.booleans()):
        values |= validation(draw, "local", held)
    count, digits = draw(st.integers(1, MOST)), draw(DIGITS)
    weight = min(round_to_digits(count, digits), layout.max_weight)
    values |= {
        WEIGHT: [weight],
        "resting": [draw(st.integers(0, 1))],
        "stopped-early": [draw(st.integers(0, 1))],
        "examples": [round_to_digits(count, digits)],
        "images": [round_to_digits(count * draw(st.integers(0, 100)), digits)],
        "batches": [round_to_digits(draw(st.integers(1, 10**6)), digits)],
        "seconds": [draw(st.floats(0, 1e6))],
        "weighted-train-loss": [weight * draw(st.floats(0, 1e6))],
    }
    entry = st.one_of(st.floats(-CLIP, CLIP), st.sampled_from([-CLIP, 0.0, CLIP]))
    update = np.array(draw(st.lists(entry, min_size=ENTRIES, max_size=ENTRIES)))
    return layout.encode(update, values)


@st.composite
def images(draw: Any, layout: Layout, *, rounded: bool) -> list[Vector]:
    """Draw the pixel statistics of an honest site, of 1 to 50 images of 1 to 4 pixels."""
    count, size = draw(st.integers(1, 50)), draw(st.integers(1, 4))
    levels = np.array(draw(st.lists(st.integers(0, 255), min_size=3, max_size=3)), np.int64)
    spread = draw(st.integers(0, 1)) * np.arange(count * size)
    grey = (levels[:, None] + spread) % 256
    digits = draw(DIGITS) if rounded else 0
    first = draw(st.integers(0, count))
    sides = np.bincount(draw(st.lists(st.integers(0, 6), min_size=count, max_size=count)))
    by_side = [int(n) for n in np.resize(np.append(sides, np.zeros(7, int)), 7)]
    channels = next(n.size for n in layout.numbers if n.name == "levels")
    return layout.encode(
        None,
        {
            "count": [count * size],
            "levels": [int(n) for n in grey.sum(axis=1)[:channels]],
            "squared-levels": [int(n) for n in (grey**2).sum(axis=1)[:channels]],
            "label-counts": [round_to_digits(n, digits) for n in (first, count - first)],
            "side-counts": [round_to_digits(n, digits) for n in by_side],
            "num-val": [round_to_digits(draw(st.integers(0, 999)), digits)],
        },
    )


@settings(max_examples=200, deadline=None)
@given(st.data(), SEVERAL, st.sampled_from(["images", "equal"]), st.sampled_from([0, ENTRIES]))
def test_what_honest_sites_report_is_plausible(
    data: st.DataObject, count: int, weighting: str, entries: int
) -> None:
    layout = report(entries=entries, weighting=weighting)
    check(layout, [data.draw(reports(layout)) for _ in range(count)])


@settings(max_examples=200, deadline=None)
@given(st.data(), SEVERAL, st.booleans())
def test_the_pixels_of_honest_sites_are_plausible(
    data: st.DataObject, count: int, rounded: bool
) -> None:
    layout = statistics()
    check(layout, [data.draw(images(layout, rounded=rounded)) for _ in range(count)])
