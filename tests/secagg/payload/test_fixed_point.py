import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, DivergenceError, ProtocolError
from primia_flwr.secagg.payload.fixed_point import FixedPoint, Overflow

CHUNK = 1 << 15


def encode(
    scale: FixedPoint, update: np.ndarray, ratio: float = 1.0, overflow: Overflow = "clip"
) -> tuple[np.ndarray, int]:
    out = np.full(update.shape, 0xDEADBEEF, np.uint32)
    return out, scale.encode(update, ratio, out, overflow=overflow)


def decode(scale: FixedPoint, total: np.ndarray, ratio_sum: float) -> np.ndarray:
    out = np.full(total.shape, np.nan)
    scale.decode(total, ratio_sum, out)
    return out


# --- Values by hand ---------------------------------------------------------------------


def test_scale_by_hand() -> None:
    scale = FixedPoint(clip=2.0, num_clients=3)
    assert scale.max_encoded == 715_827_882  # (2^31 - 1) / 3, rounded down
    assert scale.step == 2.0 / 715_827_882
    assert FixedPoint(1.0, 65_536).max_encoded == 32_767
    assert FixedPoint(1.0, 1).max_encoded == 2**31 - 1


def test_rounds_half_to_even_in_twos_complement() -> None:
    # 32,767 clients: 65,538 steps in clip, so clip 65,538 makes the step 1
    scale = FixedPoint(clip=65_538.0, num_clients=32_767)
    assert scale.step == 1.0
    update = np.array([0, 0.5, 1.5, 2.5, -0.5, -1.5, 2.4, -65_538, 65_538], np.float32)
    encoded, clipped = encode(scale, update)
    assert encoded.view(np.int32).tolist() == [0, 0, 2, 2, 0, -2, 2, -65_538, 65_538]
    assert encoded[5] == 2**32 - 2
    assert clipped == 0
    halved, _ = encode(scale, update, 0.5)
    assert halved.view(np.int32).tolist() == [0, 0, 1, 1, 0, -1, 1, -32_769, 32_769]


def test_mean_by_hand() -> None:
    scale = FixedPoint(clip=65_538.0, num_clients=32_767)
    # weights 30 and 10 of at most 40: (3 * 8 + 1 * -4) / 4 = 5
    one, _ = encode(scale, np.array([8.0]), 0.75)
    other, _ = encode(scale, np.array([-4.0]), 0.25)
    assert decode(scale, one + other, 1.0).tolist() == [5.0]
    assert decode(scale, other, 0.25).tolist() == [-4.0]


def test_float32_output_is_the_rounded_float64_output() -> None:
    scale = FixedPoint(clip=1.0, num_clients=7)
    encoded, _ = encode(scale, np.linspace(-1, 1, 2 * CHUNK + 3))
    single = np.empty(encoded.shape, np.float32)
    scale.decode(encoded, 3.7, single)
    assert np.array_equal(single, decode(scale, encoded, 3.7).astype(np.float32))


# --- The bound --------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(
    st.integers(3, 100), st.floats(1e-6, 1e6), st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32), st.data(),
)  # fmt: skip
def test_error_bound_over_any_survivors(
    num_clients: int, clip: float, dtype: type, seed: int, data: st.DataObject
) -> None:
    scale = FixedPoint(clip, num_clients)
    rng = np.random.default_rng(seed)
    updates = rng.uniform(-clip, clip, (num_clients, 33))
    updates[:, 0], updates[:, 1], updates[:, 2] = clip, -clip, 0
    updates[:, 3] = clip * rng.choice([-1, 1], num_clients)
    updates = np.clip(updates.astype(dtype), -clip, clip).astype(dtype)
    weights = np.round(10 ** rng.uniform(0, 7, num_clients))
    survivors = data.draw(st.sets(st.integers(0, num_clients - 1), min_size=1))
    ratios = weights / weights.max()
    total = np.zeros(33, np.uint32)
    for k in survivors:
        total += encode(scale, updates[k], float(ratios[k]))[0]
    chosen = sorted(survivors)
    rho = float(ratios[chosen].sum())
    exact = np.average(
        np.clip(updates[chosen].astype(np.longdouble), -clip, clip), axis=0, weights=weights[chosen]
    )
    bound = len(survivors) / 2 * scale.step / rho
    error = np.abs(decode(scale, total, rho) - exact)
    assert error.max() <= bound * (1 + 2**-20) + clip / rho * 2**-50


@pytest.mark.parametrize("num_clients", [1, 2, 3, 10, 97, 1000, 65_536])
@pytest.mark.parametrize("clip", [1e-30, 0.1, 1 / 3, 1.0, 7.0, 1e30])
def test_sums_at_the_extremes_never_wrap(num_clients: int, clip: float) -> None:
    scale = FixedPoint(clip, num_clients)
    update = np.array([clip, -clip, np.nextafter(clip, 0), 2 * clip, -2 * clip])
    encoded, clipped = encode(scale, update)
    assert clipped == 2
    exact = num_clients * encoded.view(np.int32).astype(object)
    assert exact[0] == -exact[1] == num_clients * scale.max_encoded < 2**31
    total = encoded * np.uint32(num_clients)
    assert total.view(np.int32).tolist() == exact.tolist()
    mean = decode(scale, total, float(num_clients))
    expected = [clip, -clip, clip, clip, -clip]
    np.testing.assert_allclose(mean, expected, rtol=1 / scale.max_encoded)


# --- Out of range -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clips_and_counts_in_every_chunk(dtype: type) -> None:
    scale = FixedPoint(clip=0.5, num_clients=4)
    update = np.zeros(2 * CHUNK + 10, dtype)
    update[[0, CHUNK - 1, CHUNK, 2 * CHUNK + 9]] = [0.6, -3, 1e30, -0.51]
    update[7] = 0.5
    encoded, clipped = encode(scale, update)
    assert clipped == 4
    most = scale.max_encoded
    picked = encoded.view(np.int32)[[0, CHUNK - 1, CHUNK, 2 * CHUNK + 9, 7, 8]]
    assert picked.tolist() == [most, -most, most, -most, most, 0]
    assert encode(scale, update, 0.25)[1] == 4  # counted before weighting


def test_declines_and_names_the_first_entry() -> None:
    scale = FixedPoint(clip=0.5, num_clients=4)
    update = np.zeros(2 * CHUNK, np.float32)
    update[CHUNK + 5], update[CHUNK + 9] = -0.75, 2
    with pytest.raises(ProtocolError, match=rf"entry {CHUNK + 5} of the update is -0\.75"):
        encode(scale, update, overflow="decline")
    update[[CHUNK + 5, CHUNK + 9]] = 0.5
    assert encode(scale, update, overflow="decline")[1] == 0


@pytest.mark.parametrize("overflow", ["clip", "decline"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(value: float, overflow: Overflow) -> None:
    update = np.zeros(CHUNK + 3, np.float32)
    update[CHUNK + 1] = value
    update[CHUNK] = 100
    with pytest.raises(ProtocolError, match=f"entry {CHUNK + 1} of the update is {value}"):
        encode(FixedPoint(1.0, 3), update, overflow=overflow)


def test_the_largest_floats_are_clipped_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode(FixedPoint(1e-3, 3), np.array([1.7e308, -1.7e308]))[1] == 2


# --- Arguments --------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [0.0, -1.0, np.nan, np.inf, 1e-300])
def test_refuses_a_clip(clip: float) -> None:
    with pytest.raises(ConfigError, match="clip="):
        FixedPoint(clip, 3)


@pytest.mark.parametrize("num_clients", [0, -1, 65_537])
def test_refuses_a_number_of_clients(num_clients: int) -> None:
    with pytest.raises(ConfigError, match=f"num_clients={num_clients}; expected 1 to 65536"):
        FixedPoint(1.0, num_clients)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.0001, np.nan])
def test_refuses_a_weight_ratio(ratio: float) -> None:
    with pytest.raises(ProtocolError, match="expected 0 < weight_ratio <= 1"):
        encode(FixedPoint(1.0, 3), np.zeros(2), ratio)


@pytest.mark.parametrize("ratio_sum", [0.0, -1.0, 3.1, np.nan])
def test_refuses_a_sum_of_weight_ratios(ratio_sum: float) -> None:
    with pytest.raises(ProtocolError, match="weight_ratio_sum="):
        decode(FixedPoint(1.0, 3), np.zeros(2, np.uint32), ratio_sum)


@pytest.mark.parametrize(
    ("update", "out"),
    [
        (np.zeros(3, np.float16), np.zeros(3, np.uint32)),
        (np.zeros(3, np.int64), np.zeros(3, np.uint32)),
        (np.zeros((3, 1)), np.zeros((3, 1), np.uint32)),
        (np.zeros(3), np.zeros(4, np.uint32)),
        (np.zeros(3), np.zeros(3, np.int32)),
        (np.zeros(3), np.zeros(6, np.uint32)[::2]),
    ],
)
def test_refuses_other_arrays(update: np.ndarray, out: np.ndarray) -> None:
    scale = FixedPoint(1.0, 3)
    with pytest.raises(ProtocolError, match="vector is"):
        scale.encode(update, 1.0, out)
    with pytest.raises(ProtocolError, match="vector is"):
        scale.decode(out, 1.0, update)


def test_an_empty_update_is_encoded() -> None:
    assert encode(FixedPoint(1.0, 3), np.zeros(0, np.float32))[0].size == 0


def test_the_bound_itself_is_not_rounded_to_the_entries_type() -> None:
    just_above = np.array([np.float32(0.1)])  # 0.100000001
    out = np.zeros(1, np.uint32)
    with pytest.raises(DivergenceError, match=r"entry 0 of the update is 0\.1"):
        FixedPoint(0.1, 3).encode(just_above, 1.0, out, overflow="decline")
    assert FixedPoint(0.1, 3).encode(just_above, 1.0, out) == 1
