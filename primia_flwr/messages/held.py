"""An array as it lies in memory, in Flower's terms: no bytes are made of it until it is sent.

Flower's own `Array` writes its values into bytes when it is made, and reads them out of the bytes
each time it is looked at. A model that travels packed needs neither. A held array is not for the
wire, where `packing` puts Flower's. See docs/adr/0022.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord


class HeldArray(Array):
    """An array whose values are in memory.

    Parameters
    ----------
    values : ndarray
        Kept as it is where its rows lie in order: who changes it later changes this array.
    """

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._values = np.asarray(values, order="C").view()
        self.dtype, self.shape = str(values.dtype), values.shape
        self.stype = "numpy.ndarray"
        self._values.flags.writeable = False

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes of an .npy file, made for this call."""
        return Array(self._values).data

    @property
    def nbytes(self) -> int:
        """Bytes of the values alone."""
        return self._values.nbytes

    def numpy(self) -> npt.NDArray[Any]:
        """Return a copy of the values, as Flower's does: a rule may change it."""
        return self._values.copy()

    @property
    def values(self) -> npt.NDArray[Any]:
        """The values themselves, read-only."""
        return self._values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and (
            (self.dtype, self.shape, self.stype, self.data)
            == (other.dtype, other.shape, other.stype, other.data)
        )

    __hash__ = None  # type: ignore[assignment]


def held(values: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    """Return arrays by name as a record that shares their memory."""
    return _record({name: HeldArray(array) for name, array in values.items()}, values)


def values_of(arrays: ArrayRecord) -> dict[str, npt.NDArray[Any]]:
    """Return the values of a record's arrays, not to be changed: shared where they are held."""
    return {
        name: array.values if isinstance(array, HeldArray) else array.numpy()
        for name, array in arrays.items()
    }


def chosen(arrays: Mapping[str, Array], names: Iterable[str]) -> ArrayRecord:
    """Return some arrays as a record, as they are there."""
    return _record(arrays, names)


def _record(arrays: Mapping[str, Array], names: Iterable[str]) -> ArrayRecord:
    """Flower's own constructor would write every array into bytes."""
    record = ArrayRecord()
    for name in names:
        record[name] = arrays[name]
    return record
