"""Units of privacy, and which of them a step draws.

A unit is what the guarantee is about: one image, or one patient with all images. Neighbouring data
sets differ in one unit that is zeroed out: where it is drawn, it adds nothing. A step draws every
unit independently with the sampling rate q (Poisson sampling); how many come is random and stays a
secret of the site. Each drawn unit shows `views` images: for a patient of 20 images as many as for
one of a single image, so both count once, and each view is to be augmented on its own (augmentation
multiplicity).

What is drawn must be unpredictable, or amplification by sampling is lost: it comes from the
cryptographic source, never from the experiment's seed.

Source: De et al. 2022, Unlocking High-Accuracy Differentially Private Image Classification through
Scale; Wu et al. 2019, P3SGD: Patient Privacy Preserving SGD.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.data.names import is_own
from primia_flwr.errors import DataError
from primia_flwr.privacy.mechanisms.connected import Connected
from primia_flwr.privacy.mechanisms.randomness import fresh_generator

_UNITS = ("image", "patient")
_Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """The units of a site: `images[starts[u]:starts[u + 1]]` are the images of unit u."""

    images: _Indices
    starts: _Indices

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sample(
        self, *, sampling_rate: float, generator: np.random.Generator | None = None
    ) -> _Indices:
        """Draw units, each independently with probability `sampling_rate`; perhaps none.

        `sampling_rate`: in (0, 1]. `generator`: for tests; else a fresh one that the system keys.

        Returns
        -------
        ndarray
            (drawn,) int64, ascending. Secret, and so is its length.

        Raises
        ------
        ConfigError
            If the rate is out of range.
        """
        check_range("sampling_rate", sampling_rate, 0, 1, example=0.01, open_low=True)
        generator = generator or fresh_generator()
        return np.flatnonzero(generator.random(len(self)) < sampling_rate)

    def views(
        self, drawn: _Indices, *, views: int, generator: np.random.Generator | None = None
    ) -> _Indices:
        """Choose the images that each drawn unit shows.

        A unit with at least `views` images shows that many different ones; one with fewer shows
        each of its images equally often, but for one.

        Parameters
        ----------
        drawn : ndarray
            Of `sample`.
        views : int
            1 or more.
        generator : numpy.random.Generator, optional
            For tests; by default a fresh one, keyed by the operating system.

        Returns
        -------
        ndarray
            (drawn * views,) int64, indices of images; the views of a unit are neighbours.

        Raises
        ------
        ConfigError
            If `views` is below 1.
        """
        check_range("views", views, 1, example=4)
        generator = generator or fresh_generator()
        chosen = np.empty((len(drawn), views), np.int64)
        for row, unit in zip(chosen, drawn, strict=True):
            own = self.images[self.starts[unit] : self.starts[unit + 1]]
            row[:] = generator.permutation(own)[np.arange(views) % len(own)]
        return chosen.reshape(-1)


def units_of(unit: str, patients: Sequence[str], digests: Sequence[str] = ()) -> Units:
    """Group a site's images into units.

    Parameters
    ----------
    unit : str
        `image` or `patient`.
    patients : sequence of str
        The patient of every image, in the images' order.
    digests : sequence of str
        The SHA-256 of every image's file, if known. Who shares a file is one unit: the same image
        under two names is one person's, and would count twice.

    Raises
    ------
    ConfigError
        If `unit` is another word.
    DataError
        If there is no image, or with unit `patient` an image without a patient.
    """
    check_choice("privacy.unit", unit, _UNITS)
    if not patients:
        raise DataError("there are no training images; expected at least one unit of privacy")
    count = len(patients)
    if unit == "image":
        if len(set(digests)) == len(digests):
            return Units(np.arange(count), np.arange(count + 1))
        return _grouped(digests)
    nameless = [index for index, name in enumerate(patients) if not name or is_own(name)]
    if nameless:
        raise DataError(
            f"the patient of {len(nameless)} image(s) is unknown, the first is number "
            f"{nameless[0]}; expected a patient for every image with privacy.unit=patient: two "
            "images of one would count twice; name the patients (see data.patient_pattern), or "
            "set privacy.unit=image"
        )
    if not digests:
        return _grouped(patients)
    links = list(zip((f"0{name}" for name in patients), (f"1{d}" for d in digests), strict=True))
    people = Connected(links)  # each named as the first of its patients
    return _grouped([people.root(name) for name, _ in links])


def _grouped(names: Sequence[str]) -> Units:
    """Group images of one name; units in the order of the names."""
    _, groups = np.unique(np.asarray(names), return_inverse=True)
    sizes = np.bincount(groups)
    return Units(np.argsort(groups, kind="stable"), np.concatenate(([0], np.cumsum(sizes))))
