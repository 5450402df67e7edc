"""Procedural chest radiographs: made by formula, of no patient, for demonstrations and tests.

Bright means dense, as in a radiograph. A picture is the sum of an anatomy (body, lungs, spine,
heart, ribs, clavicles, vessels; constant for a patient), a finding, and an acquisition (pose,
exposure, blur, noise, collimation, electrodes; new for every image):

- normal: nothing but faint markings;
- bacterial: a focal consolidation, one irregular cloud somewhere in one lung;
- viral: a diffuse, bilateral, fine net of lines of zero mean, and some haze.

The nuisance is chosen so strong that single pixels say little: position, brightness and contrast
of everything change from image to image, and harmless haze and shadows occur in every class.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_SIZE = 128
"""Height and width of a drawn radiograph in pixels."""

NORMAL, BACTERIAL, VIRAL = range(3)
BACKGROUND, LUNG, CONSOLIDATION = range(3)

Plane = npt.NDArray[np.floating[Any]]


def draw(
    finding: int, patient: np.random.Generator, image: np.random.Generator, *, severity: float = 1.0
) -> npt.NDArray[np.uint8]:
    """Draw one radiograph.

    `finding`: NORMAL, BACTERIAL or VIRAL. `patient`: generator at the start of the patient's own
    stream: anatomy and finding. `image`: generator at the start of the image's own stream: pose,
    exposure and noise. `severity`: factor on the contrast of the finding.

    Returns
    -------
    np.ndarray
        (SIZE, SIZE) uint8.
    """
    return draw_with_mask(finding, patient, image, severity=severity)[0]


def draw_with_mask(
    finding: int, patient: np.random.Generator, image: np.random.Generator, *, severity: float = 1.0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw one radiograph and its mask, both (SIZE, SIZE) uint8; arguments as `draw`.

    The mask is what the formula knows: `LUNG` where there is more lung than not, beside the heart
    and above the diaphragm; `CONSOLIDATION` where a cloud has half of its strength in the lung.
    """
    cloud: Plane = np.zeros(())

    def added(x: Plane, y: Plane) -> Plane:
        nonlocal cloud
        found = _FINDINGS[finding](x, y, patient, severity)
        cloud = found.cloud
        return found.density

    pixels, lungs = draw_with(added, patient, image)
    mask = np.where(lungs > 0.5, LUNG, BACKGROUND)
    mask[(lungs > 0.5) & (cloud > 0.5)] = CONSOLIDATION
    return pixels, mask.astype(np.uint8)


def draw_with(
    added: Callable[[Plane, Plane], Plane], patient: np.random.Generator, image: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Plane]:
    """Draw one radiograph (SIZE, SIZE) uint8, and return where there is lung, 0 to 1.

    `added` returns, of body coordinates x and y of each pixel, the density that the lung has beside
    a healthy one's; it is asked after the anatomy is drawn. `patient` and `image` as in `draw`.
    """
    x, y = _posed_grid(image)
    density, lungs = _anatomy(x, y, patient)
    density += lungs * added(x, y)
    density += _attachments(x, y, image)
    return _acquire(density, image), lungs


@dataclass(frozen=True)
class _Finding:
    """What a finding adds to the density of the lung, and how much of a cloud is where, 0 to 1."""

    density: Plane
    cloud: Plane


def _posed_grid(rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Body coordinates of every pixel, about [-1, 1]: turned, scaled, shifted, and warped."""
    row, column = _pixel_grid()
    angle = math.radians(rng.uniform(-12, 12))
    stretch_x, stretch_y = rng.uniform(0.85, 1.25, 2).astype(np.float32)
    shift_x, shift_y = rng.uniform(-0.14, 0.14, 2).astype(np.float32)
    x = (math.cos(angle) * column + math.sin(angle) * row) * stretch_x + shift_x
    y = (math.cos(angle) * row - math.sin(angle) * column) * stretch_y + shift_y
    bend = np.float32(rng.uniform(-0.12, 0.12))
    return x + bend * y * y, y + bend * x * x


def _anatomy(x: Plane, y: Plane, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Density of a healthy chest, and where there is lung (0 to 1)."""
    u = rng.uniform(-1, 1, 16).astype(np.float32)
    body = soft_edge(1 - (x / (0.88 + 0.06 * u[0])) ** 4 - ((y - 0.15) / 1.15) ** 4, 8)
    heart_x, heart_y = 0.13 + 0.05 * u[1], 0.27 + 0.05 * u[2]
    heart = soft_edge(
        1 - ((x - heart_x) / (0.30 + 0.06 * u[3])) ** 2 - ((y - heart_y) / 0.26) ** 2, 5
    )
    lungs = _lungs(x, y, u[4:9]) * (1 - 0.8 * heart)
    spine = np.exp(-((x / 0.15) ** 2)) * (1 + 0.15 * np.cos(24 * y + 3 * u[9]))
    frequency, slope = 19 + 3 * u[10], 5 + 2 * u[11]
    ribs = np.exp(3 * np.cos(frequency * y + slope * np.abs(x) ** 1.5 + 3 * u[12]) - 3)
    clavicles = np.exp(-(((y + 0.62 + 0.25 * np.abs(x) - 0.1 * u[13]) / 0.035) ** 2))
    density = body * (0.55 + 0.22 * spine + 0.16 * heart + 0.08 * ribs + 0.08 * clavicles)
    density -= lungs * (0.34 + 0.07 * u[14])
    hilum = np.exp(-(((np.abs(x) - 0.2) / 0.22) ** 2) - ((y / 0.4) ** 2))
    density += lungs * hilum * (0.05 + 0.04 * texture(rng, 4, 12))
    haze = texture(rng, 0.5, 2.5) * rng.uniform(0.02, 0.05)
    return (density + lungs * haze).astype(np.float32), lungs


def _lungs(x: Plane, y: Plane, u: Plane) -> Plane:
    """Two egg shapes that end at the domes of the diaphragm; `u`: (5,) in [-1, 1]."""
    lungs = np.zeros_like(x)
    for side, width, height in ((-1, u[0], u[1]), (1, u[2], u[3])):
        half_width = (0.27 + 0.03 * width) * (1 + 0.25 * y)
        across = (x - side * (0.40 + 0.03 * u[4])) / half_width
        along = (y + 0.08) / (0.60 + 0.05 * height)
        dome = 0.42 + 0.05 * height - 0.12 * (1 - across**2)
        lung = soft_edge(1 - across**2 - along**2, 6) * soft_edge(dome + 0.1 - y, 22)
        lungs = np.maximum(lungs, lung)
    return lungs


def _normal(x: Plane, y: Plane, rng: np.random.Generator, severity: float) -> _Finding:
    """Draw markings of vessels alone, in strength like a faint interstitial pattern."""
    return _Finding(markings(rng), np.zeros_like(x))


def markings(rng: np.random.Generator) -> Plane:
    """Return the faint markings that every lung has."""
    return np.asarray(texture(rng, 7, 16) * np.float32(rng.uniform(0.0, 0.018)))


def _bacterial(x: Plane, y: Plane, rng: np.random.Generator, severity: float) -> _Finding:
    """Draw one irregular cloud in one lung, beside the markings every lung has."""
    side = rng.choice((-1, 1))
    center_x, center_y = side * rng.uniform(0.26, 0.54), rng.uniform(-0.45, 0.30)
    radius = rng.uniform(0.15, 0.26)
    distance = ((x - center_x) ** 2 + (y - center_y) ** 2) / radius**2
    cloud = np.exp(-(distance**1.5) * np.exp(0.5 * texture(rng, 2, 6)))
    strength = np.float32(severity * rng.uniform(0.30, 0.52))
    return _Finding(np.asarray(markings(rng) + cloud.astype(np.float32) * strength), cloud)


def _viral(x: Plane, y: Plane, rng: np.random.Generator, severity: float) -> _Finding:
    """Draw a fine net over both lungs, denser at some height, of zero mean."""
    focus = np.exp(-(((y - rng.uniform(-0.2, 0.3)) / rng.uniform(0.35, 0.9)) ** 2))
    net = texture(rng, 7, 16) * (0.5 + focus)
    strength = np.float32(severity * rng.uniform(0.04, 0.08))
    return _Finding(np.asarray(net * strength, dtype=np.float32), np.zeros_like(x))


_FINDINGS = {NORMAL: _normal, BACTERIAL: _bacterial, VIRAL: _viral}


def _attachments(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    """Electrodes, at times a lead, and soft shadows of arms or folds: harmless in every class."""
    shade = np.zeros_like(x)
    for _ in range(int(rng.integers(0, 4))):
        at_x, at_y = rng.uniform(-0.7, 0.7), rng.uniform(-0.6, 0.6)
        distance = ((x - at_x) ** 2 + (y - at_y) ** 2) / rng.uniform(0.03, 0.06) ** 2
        shade += np.float32(rng.uniform(0.1, 0.3)) * soft_edge(1 - distance, 4)
    if rng.random() < 0.4:
        line = y - rng.uniform(-0.5, 0.5) - rng.uniform(-0.8, 0.8) * x - 0.2 * np.sin(4 * x)
        shade += 0.12 * np.exp(-((line / 0.02) ** 2))
    return np.asarray(shade + texture(rng, 0.5, 2) * np.float32(rng.uniform(0.01, 0.05)))


def _acquire(density: Plane, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Exposure, gamma, blur, quantum noise, and a collimated edge."""
    sigma = rng.uniform(0.0, 0.9)
    blurred = np.fft.irfft2(np.fft.rfft2(density) * np.exp(-((_frequencies() * sigma) ** 2)))
    exposed = np.clip(blurred + rng.uniform(-0.08, 0.12), 0, None) * rng.uniform(0.75, 1.35)
    toned = np.clip(exposed, 0, 1) ** rng.uniform(0.65, 1.5)
    noise = rng.standard_normal((_SIZE, _SIZE), dtype=np.float32) * rng.uniform(0.01, 0.05)
    edges = rng.integers(0, 9, 4)
    frame = np.zeros((_SIZE, _SIZE), dtype=np.float32)
    frame[edges[0] : _SIZE - edges[1], edges[2] : _SIZE - edges[3]] = 1
    pixels = (toned + noise * (0.3 + toned)) * frame * 255
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def texture(rng: np.random.Generator, low: float, high: float) -> Plane:
    """Return a random field of unit variance with `low` to `high` periods across the picture."""
    white = rng.standard_normal((_SIZE, _SIZE), dtype=np.float32)
    field = np.fft.irfft2(np.fft.rfft2(white) * _band(low, high))
    return np.asarray(field / (field.std() + 1e-12), dtype=np.float32)


def soft_edge(value: Plane, sharpness: float) -> Plane:
    """Return 0 outside, 1 inside, with a soft edge where `value` is 0."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * sharpness * value), dtype=np.float32)


@cache
def _pixel_grid() -> tuple[Plane, Plane]:
    axis = (np.arange(_SIZE, dtype=np.float32) + 0.5) / _SIZE * 2 - 1
    row, column = np.meshgrid(axis, axis, indexing="ij")
    return row, column


@cache
def _frequencies() -> Plane:
    """Angular frequency of every coefficient of `rfft2`, in radians a pixel."""
    return (2 * math.pi * _periods() / _SIZE).astype(np.float32)


@cache
def _periods() -> Plane:
    rows, columns = np.fft.fftfreq(_SIZE) * _SIZE, np.fft.rfftfreq(_SIZE) * _SIZE
    return np.asarray(np.hypot(rows[:, None], columns[None, :]), dtype=np.float32)


@cache
def _band(low: float, high: float) -> Plane:
    periods = _periods()
    below_high, below_low = (np.exp(-((periods / limit) ** 4)) for limit in (high, low))
    return np.asarray(below_high * (1 - below_low), dtype=np.float32)
