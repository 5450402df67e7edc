"""The breaks of compared systems, always: matrix conjugation, a shared homomorphic key."""

import numpy as np
import pytest
from primia_bench.compared import more

KEYS = range(8)


@pytest.mark.parametrize("seed", KEYS)
def test_one_known_pixel_opens_every_ciphertext(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, key = rng.uniform(size=(5, 8, 8)), more.new_key(rng)
    sent = more.encrypt(images, key, rng)
    np.testing.assert_allclose(more.decrypt(sent, key), images, atol=1e-12)
    opened = more.opened(sent, {7: float(images.ravel()[7])})  # the attacker has no key
    np.testing.assert_allclose(opened, images, atol=1e-12)


def test_without_any_known_pixel_the_smoother_reading_is_the_image() -> None:
    rng = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 1, 16), (3, 16, 1)).transpose(0, 2, 1)
    sent = more.encrypt(ramp, more.new_key(rng), rng)
    np.testing.assert_allclose(more.looks_like_images(sent), ramp, atol=1e-12)


def test_a_network_on_ciphertexts_gives_the_plain_logits() -> None:
    rng = np.random.default_rng(1)
    images, labels = rng.uniform(size=(20, 8, 8)), rng.integers(0, 10, 20)
    model, key = more.network(images, labels), more.new_key(rng)
    sent = more.encrypt(images[:4], key, rng)
    plain = more.as_logits(model, images[:4])
    np.testing.assert_allclose(
        more.decrypt(more.on_ciphertexts(model, sent), key), plain, atol=1e-9
    )


def test_a_shared_key_opens_a_single_sites_ciphertext_and_a_mask_does_not() -> None:
    pytest.importorskip("tenseal")
    from primia_bench.compared import homomorphic

    rng = np.random.default_rng(2)
    updates = [rng.normal(scale=0.01, size=5000).astype(np.float32) for _ in homomorphic.IMAGES]
    shared, masked = homomorphic.ckks(updates), homomorphic.masked(updates)
    opened = "error_of_a_single_sites_update_opened_by_another"
    for row in (shared, masked):
        assert row["largest_error_of_the_mean"] < homomorphic.CLIP * 2.0**-20
    assert shared[opened] < 1e-6
    assert masked[opened] > 1  # random numbers as large as the clip allows
    assert masked["bytes_a_site"] == 4 * 5000
