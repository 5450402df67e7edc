"""Control variates in a message: the mean of the sites', beside the model's arrays.

Source: Karimireddy et al. 2020, SCAFFOLD, https://arxiv.org/abs/1910.06378
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import ProtocolError

_PREFIX = "variate/"

Arrays = dict[str, npt.NDArray[Any]]


def beside(variates: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return control variates by the names that they have beside a model's arrays."""
    return {f"{_PREFIX}{name}": array for name, array in variates.items()}


def apart(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[Arrays, Arrays]:
    """Return a model's arrays, and the control variates that came beside them.

    Raises
    ------
    ProtocolError
        If a variate is of another shape than its parameter, not float32, or not finite.
    """
    model = {name: array for name, array in arrays.items() if not name.startswith(_PREFIX)}
    found = {n.removeprefix(_PREFIX): a for n, a in arrays.items() if n not in model}
    for name, array in found.items():
        form = model[name].shape if name in model else None
        fits = array.shape == form and array.dtype == np.dtype(np.float32)
        if not fits or not np.isfinite(array).all():
            raise ProtocolError(
                f"the control variate of {name!r:.60} is {array.dtype} {array.shape}; expected "
                f"finite float32 {form or 'of a parameter of the model'}"
            )
    return model, found
