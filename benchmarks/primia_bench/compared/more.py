"""MORE (matrix conjugation): a network on its ciphertexts, and how one known pixel opens them all.

A number x is sent as S diag(x, r) S^-1 with a secret 2 x 2 matrix S, alike for all numbers, and a
random r. Sums and products of such matrices are those of the numbers, and so is every function of a
matrix: a network runs on them as it is. But all ciphertexts share the eigenvectors of S, and their
eigenvalues are x and r in the clear. Whoever knows one number of one ciphertext knows which of
the two eigenvectors is the message's, and reads everything. Without any known number, the right
eigenvector is the one whose eigenvalues look like an image.

    python -m primia_bench.compared.more --output results/compared_more.json

Source of the scheme in this field: Vizitiu et al. 2019, Towards privacy-preserving deep learning
based medical imaging applications; of the scheme: Kipnis and Hibshoosh 2012.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from primia_bench.machine import describe_machine, publish

Array = npt.NDArray[np.float64]
IMAGES = 200


def new_key(rng: np.random.Generator) -> Array:
    """Return a well-conditioned secret matrix S, (2, 2)."""
    while True:
        key = rng.normal(size=(2, 2))
        if abs(np.linalg.det(key)) > 0.5:
            return key


def encrypt(values: Array, key: Array, rng: np.random.Generator) -> Array:
    """Return S diag(x, r) S^-1 for each value, (..., 2, 2); r is drawn from their range."""
    diagonal = np.zeros((*values.shape, 2, 2))
    diagonal[..., 0, 0] = values
    diagonal[..., 1, 1] = rng.uniform(values.min(), values.max(), values.shape)
    found: Array = key @ diagonal @ np.linalg.inv(key)
    return found


def decrypt(sent: Array, key: Array) -> Array:
    """Return the values of ciphertexts (..., 2, 2)."""
    found: Array = (np.linalg.inv(key) @ sent @ key)[..., 0, 0]
    return found


def eigenvectors(sent: Array) -> Array:
    """Return the two eigenvectors that all ciphertexts share, as columns (2, 2)."""
    of_all = sent.reshape(-1, 2, 2)
    values, vectors = np.linalg.eig(of_all)
    clearest = int(np.argmax(np.abs(values[:, 0] - values[:, 1])))
    found: Array = np.real(vectors[clearest])
    return found


def opened(sent: Array, known: dict[int, float]) -> Array:
    """Return what ciphertexts say to somebody who knows some of the numbers, by flat index."""
    basis = eigenvectors(sent)
    both = [decrypt(sent, basis[:, order]) for order in ([0, 1], [1, 0])]
    wrong = [
        sum(abs(found.ravel()[index] - value) for index, value in known.items()) for found in both
    ]
    return both[int(np.argmin(wrong))]


def looks_like_images(sent: Array) -> Array:
    """Return the smoother of the two readings of images (N, S, S, 2, 2): no number is known."""
    basis = eigenvectors(sent)
    both = [decrypt(sent, basis[:, order]) for order in ([0, 1], [1, 0])]
    rough = [np.abs(np.diff(found, axis=1)).sum() for found in both]
    return both[int(np.argmin(rough))]


def network(images: Array, labels: npt.NDArray[np.int64]) -> nn.Sequential:
    """Train a convolution, ReLU and a linear layer in the clear; what MORE then runs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    model = model.double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = torch.from_numpy(images)[:, None], torch.from_numpy(labels)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.requires_grad_(False)


def as_logits(model: nn.Sequential, images: Array) -> Array:
    """Return the logits (N, 10) of images (N, S, S) in the clear."""
    found: Array = model(torch.from_numpy(images)[:, None]).numpy()
    return found


def on_ciphertexts(model: nn.Sequential, sent: Array) -> Array:
    """Run the network on ciphertexts (N, S, S, 2, 2); return those of the logits, (N, 10, 2, 2).

    Each entry of a ciphertext goes through the linear layers by itself; a bias b is b times the
    identity; ReLU is that of the matrix, by its eigenvalues.
    """
    conv, linear = model[0], model[3]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(linear, nn.Linear)
    found = _each_entry(sent, lambda x: nn.functional.conv2d(x[:, None], conv.weight))
    found = found + _bias(conv)[:, None, None, None, None] * np.eye(2)
    flat = _relu(found).reshape(len(sent), -1, 2, 2)
    found = _each_entry(flat, lambda x: x @ linear.weight.T)
    logits: Array = found + _bias(linear)[:, None, None] * np.eye(2)
    return logits


def _bias(layer: nn.Conv2d | nn.Linear) -> Array:
    assert layer.bias is not None
    found: Array = layer.bias.numpy()
    return found


def _each_entry(sent: Array, layer: Callable[[torch.Tensor], torch.Tensor]) -> Array:
    rows = [[layer(torch.from_numpy(sent[..., i, j])).numpy() for j in (0, 1)] for i in (0, 1)]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _relu(sent: Array) -> Array:
    values, vectors = np.linalg.eig(sent)
    found: Array = (vectors * np.maximum(values, 0)[..., None, :]) @ np.linalg.inv(vectors)
    return found


def measure(seed: int) -> dict[str, object]:
    """Return agreement, times and what the break recovers."""
    digits = load_digits()
    scaled = digits.images / 16.0
    train, test, labels, truth = train_test_split(
        scaled, digits.target.astype(np.int64), test_size=IMAGES, random_state=seed
    )
    rng = np.random.default_rng(seed)
    model, key = network(train, labels), new_key(rng)
    sent = encrypt(test, key, rng)
    began = time.perf_counter()
    plain = as_logits(model, test)
    plain_seconds, began = time.perf_counter() - began, time.perf_counter()
    answered = decrypt(on_ciphertexts(model, sent), key)
    seconds = time.perf_counter() - began
    corner = {int(np.argmax(test)): float(test.max())}  # a pixel that is saturated
    return {
        "images": IMAGES,
        "accuracy_plain": float((plain.argmax(1) == truth).mean()),
        "same_class": float((answered.argmax(1) == plain.argmax(1)).mean()),
        "largest_difference_of_a_logit": float(np.abs(answered - plain).max()),
        "times_slower": round(seconds / plain_seconds, 1),
        "times_larger": sent.nbytes / test.astype(np.float32).nbytes,
        "broken": {
            "known_numbers_needed": 1,
            "largest_error_of_a_pixel": float(np.abs(opened(sent, corner) - test).max()),
            "largest_error_with_nothing_known": float(np.abs(looks_like_images(sent) - test).max()),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    given = parser.parse_args()
    found = measure(given.seed)
    publish({"benchmark": "compared_more", **found, "machine": describe_machine()}, given.output)


if __name__ == "__main__":
    main()
