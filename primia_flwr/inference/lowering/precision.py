"""Does a model say the same in fixed point as in the clear? Measured, and refused where not.

Weights have 16 fractional bits, everything between layers 13. A network that is the same in the
clear can be another one there: scale one layer by f and the next by 1/f, and for a small f numbers
vanish between the two, for a large one the weights do. So the model's owner has both forms classify
the same images.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.lowering.bounds import Watch, bounds_of
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.lowering.rehearsal import Rehearsal
from primia_flwr.models.activation_bounds import ActivationBounds, Precision

_TOLERANCE = 0.02  # of a score; of scores beyond 20, a thousandth of the largest
_RELATIVE = 1e-3
_TIE = 0.02  # of the largest margin: below it an image may change its class, one in 100 of them
_CHANGED_PIXELS = 1e-3  # of an image
_MOST_WRONG_CUTS = 0.01  # expected for an image
FEW_IMAGES = 100
_REMEDY = (
    "train it anew, with batch norm and weight decay, and do not rescale its layers; nothing was "
    "written"
)


@dataclass
class _Scores:
    """Of all images so far, in the clear and in fixed point."""

    plain: list[Tensor]
    fixed: list[Tensor]


def calibrate(
    model: nn.Module, images: Iterable[Tensor], *, several: bool = False
) -> tuple[ActivationBounds, Precision]:
    """Return what stands in the model's card: bounds of what is compared, and their precision.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    images : iterable of Tensor
        Normalised, (1, C, H, W) float each.
    several : bool
        Each score is a finding by itself.

    Raises
    ------
    ConfigError
        If there are none, the model gives numbers that are not finite, or it loses precision.
    """
    largest: dict[str, float] = {}
    scores = _Scores([], [])
    lowered = rehearsal = None
    for image in images:
        if lowered is None or rehearsal is None:
            lowered = _lowered(model, tuple(image.shape))
            rehearsal = Rehearsal(lowered, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            features = lowered.front(image)
            Watch(lowered.graph, largest).run(features)
            scores.plain.append(model(image).double())
            scores.fixed.append(rehearsal.classify(features))
    if lowered is None or rehearsal is None:
        raise ConfigError("there are no images to measure; expected at least one")
    count = len(scores.plain)
    found = precision_of(
        torch.cat(scores.plain),
        torch.cat(scores.fixed),
        wrong_cuts=rehearsal.wrong_cuts / count,
        several=several,
    )
    check_precision(found, count)
    compared = [largest[name] for name in lowered.node_of_comparison]
    return bounds_of(lowered, compared, images=count, precision=found), found


def _lowered(model: nn.Module, shape: tuple[int, ...]) -> Lowered:
    """Lower a model; weights that do not fit into the ring are its owner's to mend."""
    try:
        return lower(model, shape)
    except ProtocolError as error:
        raise ConfigError(f"the model's weights have {error}; {_REMEDY}") from None


def precision_of(
    plain: Tensor, fixed: Tensor, *, wrong_cuts: float, several: bool = False
) -> Precision:
    """Compare scores (N, classes), float64; `wrong_cuts`: expected for an image.

    Of scores at each pixel, (N, classes, H, W), an image has changed its class where more than
    `_CHANGED_PIXELS` of its pixels have, and is a tie if all of these are. Where each score is a
    finding by itself (`several`), an image has changed where any finding has: present from 0 on.
    """
    margins, other = margins_of(plain, fixed, several=several)
    tied = margins < _TIE * margins.max()
    if several:
        other, tied = other.any(dim=1), ~(other & ~tied).any(dim=1)
    if plain.dim() == 4:
        pixels, firm = other.flatten(1).double(), (other & ~tied).flatten(1)
        other, tied = pixels.mean(dim=1) > _CHANGED_PIXELS, ~firm.any(dim=1)
    return Precision(
        largest_score=float(plain.abs().max()),
        largest_difference=float((fixed - plain).abs().max()),
        changed=int((other & ~tied).sum()),
        ties_changed=int((other & tied).sum()),
        wrong_cuts=wrong_cuts,
    )


def margins_of(plain: Tensor, fixed: Tensor, *, several: bool) -> tuple[Tensor, Tensor]:
    """Return by how much each call is clear, and whether it is another one in fixed point.

    (N,) each, or (N, H, W); of several findings (N, findings).
    """
    if several:
        return plain.abs(), (plain >= 0) != (fixed >= 0)
    top = plain.topk(2, dim=1).values
    return top[:, 0] - top[:, 1], plain.argmax(dim=1) != fixed.argmax(dim=1)


def is_precise(found: Precision, images: int) -> bool:
    """Say whether `check_precision` lets a model pass."""
    try:
        check_precision(found, images)
    except ConfigError:
        return False
    return True


def check_precision(found: Precision, images: int) -> None:
    """Refuse a model that is another one in fixed point; `images`: on how many it was measured.

    Raises
    ------
    ConfigError
        With what was found, and what was expected.
    """
    tolerance = max(_TOLERANCE, _RELATIVE * found.largest_score)
    changed = found.changed + found.ties_changed
    told = (
        f"in fixed point the model keeps the class of {images - changed} of {images} images, and "
        f"its scores within {found.largest_difference:.3g}; expected"
    )
    if not found.largest_difference <= tolerance:
        raise ConfigError(f"{told} {tolerance:.3g}: it loses precision; {_REMEDY}")
    if found.changed or found.ties_changed > max(images // 100, 1):
        raise ConfigError(
            f"{told} all, but for one in 100 that was a tie: it loses precision; {_REMEDY}"
        )
    if not found.wrong_cuts <= _MOST_WRONG_CUTS:
        raise ConfigError(
            f"its numbers are so large that {found.wrong_cuts:.2g} of them would be cut wrongly in "
            f"each image; expected at most {_MOST_WRONG_CUTS}; {_REMEDY}"
        )
