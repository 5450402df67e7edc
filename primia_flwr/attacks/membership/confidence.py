"""How sure a model is of the true class of an image: what membership attacks look at."""

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_SMALLEST = np.finfo(np.float64).tiny  # log of it is -708: no score becomes infinite


def log_likelihood(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Return log p(true class) of every image: minus its cross-entropy loss, in nats.

    `probabilities`: (N, C) float64, rows sum to 1. `labels`: (N,) int64, true classes below C.

    Returns
    -------
    (N,) float64
        At most 0.

    Raises
    ------
    DataError
        If the shapes do not fit together or a probability is not finite.
    """
    own, _ = _own_and_others(probabilities, labels)
    return _log(own)


def logit_confidence(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Return log(p / (1 - p)) of the true class's probability p, which is near to Gaussian.

    1 - p is the sum of the other classes' probabilities, so that a p that rounds to 1 keeps
    its digits. Parameters, Raises: as `log_likelihood`.

    Returns
    -------
    (N,) float64
        Finite; 0 where p is one half.

    Source: Carlini et al. 2022, Membership Inference Attacks From First Principles, section
    IV-C and appendix, https://arxiv.org/abs/2112.03570.
    """
    own, others = _own_and_others(probabilities, labels)
    return _log(own) - _log(others)


def _own_and_others(probabilities: FloatArray, labels: IntArray) -> tuple[FloatArray, FloatArray]:
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    fit = p.ndim == 2 and y.shape == p.shape[:1]
    if not fit or (len(y) and not 0 <= y.min() <= y.max() < p.shape[1]):
        raise DataError(
            f"probabilities {p.shape} and labels {y.shape}; expected (N, classes) and N indices "
            "of classes"
        )
    if not np.isfinite(p).all():
        raise DataError(
            "a probability is NaN or infinite; expected those of a model that did not diverge: "
            "lower training.learning_rate and train again"
        )
    rows = np.arange(len(y))
    others = p.copy()
    others[rows, y] = 0.0
    return p[rows, y], others.sum(axis=1)


def _log(values: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(values, _SMALLEST)), np.float64)
