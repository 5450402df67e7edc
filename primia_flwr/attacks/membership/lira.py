"""The likelihood-ratio attack: a model that saw an image is surer of it than models that did not.

For every image the confidences of shadow models whose training left it out are taken as draws
of a Gaussian. Offline, the score is how far above its mean the attacked model lies: the
one-sided test of "it was not in". Online, models that were trained on it give a second Gaussian,
and the score is the logarithm of the ratio of the two densities.

Source: Carlini, Chien, Nasr, Song, Terzis, Tramèr 2022, Membership Inference Attacks From First
Principles, Algorithm 1, equation 4 and sections VI-B, VI-C, https://arxiv.org/abs/2112.03570.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats

from primia_flwr.attacks.membership.confidence import FloatArray, IntArray
from primia_flwr.errors import ConfigError, DataError

BoolArray = npt.NDArray[np.bool_]

_VARIANCES = ("auto", "pooled", "per_image")
_ENOUGH_FOR_ONE_IMAGE = 64  # shadows from which "auto" fits each image's own variance


def offline(
    target: FloatArray, shadows: FloatArray, inside: BoolArray, *, variance: str = "auto"
) -> FloatArray:
    """Return the distance above the mean of the models that left the image out, in deviations.

    z = (phi - mu_out) / sigma_out grows as the one-sided p-value 1 - Phi(z) falls, and where
    that would round to 0 it still has an order.

    Parameters
    ----------
    target : (N,) float64
        Logit-scaled confidences of the attacked model.
    shadows : (S, N) float64
        Those of the shadow models.
    inside : (S, N) bool
        Whether an image was in a shadow model's training.
    variance : str
        pooled: one for all images, from the deviations from each image's own mean (S below 64);
        per_image: each its own; auto: by the number of shadows.

    Returns
    -------
    (N,) float64
        z; a larger one speaks for membership.

    Raises
    ------
    ConfigError
        If an image was left out by fewer than two shadow models, or `variance` is unknown.
    DataError
        If the shapes do not fit together.
    """
    mean, deviation = _gaussian(shadows, ~inside, variance, target)
    return np.asarray((target - mean) / deviation, np.float64)


def p_values(z: FloatArray) -> FloatArray:
    """Return the chance of at least this confidence for an image that was not in: 1 - Phi(z)."""
    return np.asarray(stats.norm.sf(z), np.float64)


def online(
    target: FloatArray, shadows: FloatArray, inside: BoolArray, *, variance: str = "auto"
) -> FloatArray:
    """Return log N(phi; mu_in, sigma_in^2) - log N(phi; mu_out, sigma_out^2) of every image.

    Parameters and Raises: as `offline`; every image must be in at least two shadow models too.
    """
    mean_in, deviation_in = _gaussian(shadows, inside, variance, target)
    mean_out, deviation_out = _gaussian(shadows, ~inside, variance, target)
    ratio = stats.norm.logpdf(target, mean_in, deviation_in) - stats.norm.logpdf(
        target, mean_out, deviation_out
    )
    return np.asarray(ratio, np.float64)


def _checked_counts(
    shadows: FloatArray, chosen: BoolArray, variance: str, target: FloatArray
) -> IntArray:
    """Return how many entries of every column are chosen (N,), at least 2 of each."""
    if variance not in _VARIANCES:
        raise ConfigError(f"variance={variance}; expected one of {', '.join(_VARIANCES)}")
    if shadows.shape != chosen.shape or shadows.shape[1:] != target.shape:
        raise DataError(
            f"shadows {shadows.shape}, inside {chosen.shape}, target {target.shape}; expected "
            "(S, N), (S, N) and (N,)"
        )
    counts: IntArray = chosen.sum(axis=0)
    if counts.min(initial=2) < 2:
        raise ConfigError(
            f"an image has {int(counts.min())} shadow model(s) on one side of the test; expected "
            "at least 2: raise shadows"
        )
    return counts


def _gaussian(
    shadows: FloatArray, chosen: BoolArray, variance: str, target: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation (N,) over the chosen entries of every column."""
    counts = _checked_counts(shadows, chosen, variance, target)
    mean = np.where(chosen, shadows, 0.0).sum(axis=0) / counts
    squares = (np.where(chosen, shadows - mean, 0.0) ** 2).sum(axis=0)
    if variance == "auto":
        variance = "per_image" if len(shadows) >= _ENOUGH_FOR_ONE_IMAGE else "pooled"
    if variance == "pooled":
        found = np.full_like(squares, squares.sum() / (counts - 1).sum())
    else:
        found = squares / (counts - 1)
    return mean, np.sqrt(np.maximum(found, np.finfo(np.float64).tiny))
