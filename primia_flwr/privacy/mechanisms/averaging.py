"""An exponential average of the models of a private run: post-processing of noisy releases.

It evens out the noise of the last rounds and costs no privacy.

Source: De et al. 2022, Unlocking High-Accuracy Differentially Private Image Classification through
Scale, section 3.4; the warm-up (1 + t) / (10 + t) is theirs. They average over steps; here it is
over rounds, because between two of them the sites release nothing.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

_ArrayMap = dict[str, npt.NDArray[np.float32]]


def averaged(
    average: Mapping[str, npt.NDArray[np.float32]],
    model: Mapping[str, npt.NDArray[np.float32]],
    *,
    decay: float,
    rounds: int,
) -> _ArrayMap:
    """Take one more round's model into the average.

    Parameters
    ----------
    average, model : mapping of name to float32 array
        The average so far (the initial model before the first round), and the round's model.
    decay : float
        Weight of the past, in [0, 1); less in the first rounds.
    rounds : int
        How many models are in the average, 0 before the first.

    Returns
    -------
    dict
        The new average: fresh float32 arrays, computed in float64.
    """
    past = min(decay, (1 + rounds) / (10 + rounds))
    return {
        name: (past * average[name].astype(np.float64) + (1 - past) * array).astype(np.float32)
        for name, array in model.items()
    }
