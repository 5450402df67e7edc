"""The likelihood-ratio attack against Gaussians computed by hand."""

import math

import numpy as np
import pytest

from primia_flwr.attacks.membership import lira
from primia_flwr.errors import ConfigError, DataError

# Two images, four shadow models; the first two left both images out.
SHADOWS = np.array([[0.0, 10.0], [2.0, 14.0], [5.0, 20.0], [7.0, 26.0]])
INSIDE = np.array([[False, False], [False, False], [True, True], [True, True]])
# out: means 1 and 12, squares 2 and 8; in: means 6 and 23, squares 2 and 18
TARGET = np.array([1 + math.sqrt(5), 12 + 2 * math.sqrt(8)])


def test_offline_pooled_variance_by_hand() -> None:
    z = lira.offline(TARGET, SHADOWS, INSIDE, variance="pooled")  # (2 + 8) / (1 + 1) = 5
    assert z == pytest.approx([1.0, 2 * math.sqrt(8 / 5)])
    assert lira.p_values(np.array([0.0, 1.0, 1.959964])) == pytest.approx(
        [0.5, 0.158655, 0.025], abs=1e-6
    )


def test_offline_variance_of_each_image_by_hand() -> None:
    z = lira.offline(TARGET, SHADOWS, INSIDE, variance="per_image")  # variances 2 and 8
    assert z == pytest.approx([math.sqrt(5 / 2), 2.0])


def test_online_ratio_by_hand() -> None:
    found = lira.online(TARGET, SHADOWS, INSIDE, variance="per_image")
    # log N(x; m, v) = -(x - m)^2 / (2 v) - log(v) / 2 - log(2 pi) / 2
    first = -((TARGET[0] - 6) ** 2) / 4 + 5 / 4
    second = -((TARGET[1] - 23) ** 2) / 36 - math.log(18) / 2 + 4 / 2 + math.log(8) / 2
    assert found == pytest.approx([first, second])


def test_which_side_a_shadow_is_on_may_differ_by_image() -> None:
    inside = INSIDE.copy()
    inside[:, 1] = [True, True, False, False]
    z = lira.offline(np.array([1.0, 23.0]), SHADOWS, inside, variance="per_image")
    assert z == pytest.approx([0.0, 0.0])


def test_few_shadows_share_one_variance_and_many_do_not() -> None:
    rng = np.random.default_rng(0)
    for count, variance in ((63, "pooled"), (64, "per_image")):
        shadows = rng.normal(size=(count, 5)) * np.arange(1, 6)
        inside = np.zeros((count, 5), np.bool_)
        auto = lira.offline(np.ones(5), shadows, inside)
        assert auto == pytest.approx(lira.offline(np.ones(5), shadows, inside, variance=variance))
        other = "pooled" if variance == "per_image" else "per_image"
        assert auto != pytest.approx(lira.offline(np.ones(5), shadows, inside, variance=other))


def test_an_image_that_was_never_left_out_is_refused() -> None:
    inside = INSIDE.copy()
    inside[0, 0] = True
    with pytest.raises(ConfigError, match=r"1 shadow model\(s\).*at least 2: raise shadows"):
        lira.offline(TARGET, SHADOWS, inside)
    with pytest.raises(ConfigError, match="0 shadow"):
        lira.online(TARGET, SHADOWS, np.zeros_like(INSIDE))


def test_other_words_and_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="variance=some; expected one of auto, pooled, per_image"):
        lira.offline(TARGET, SHADOWS, INSIDE, variance="some")
    with pytest.raises(DataError, match=r"expected \(S, N\)"):
        lira.offline(TARGET[:1], SHADOWS, INSIDE)
