"""The clipping norm of a site's private steps, kept from round to round where it is adaptive.

It is a function of noisy releases only, and it is the site's own: it never leaves it. A round that
is asked for again begins with the norm that the round before left.
"""

import logging

import numpy as np

from clients.site.kept import KeptRounds
from clients.site.opened import OpenSite

logger = logging.getLogger(__name__)

_NAME = "clip_norm"


def adaptive_clip_norm(site: OpenSite, number: int) -> float | None:
    """Return the norm that was kept after round `number`, or the last before.

    None where none was: in the first round, and in a run with a fixed clip.

    Raises
    ------
    DataError
        If what was kept cannot be read.
    """
    if not site.experiment.privacy.clip_quantile:
        return None
    kept = _kept(site).newest(number)
    return float(kept[_NAME]) if _NAME in kept else None


def keep_adaptive_clip_norm(site: OpenSite, clip_norm: float, number: int) -> None:
    """Write the norm after round `number` down; nothing where the clip is fixed."""
    if site.experiment.privacy.clip_quantile:
        logger.info("round %d: the next one clips to %.4g at first", number, clip_norm)
        _kept(site).save(number, {_NAME: np.array(clip_norm)})


def _kept(site: OpenSite) -> KeptRounds:
    return site.kept("clip-norm", keep=site.experiment.federation.rounds + 1)
