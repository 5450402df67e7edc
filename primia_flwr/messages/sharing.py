"""Which of an update's numbers travel in a round where sites share a part of them.

Source: Shokri, Shmatikov 2015, Privacy-Preserving Deep Learning; the rest stays at the site, which
goes on from it.
"""

import base64
import binascii

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import held, values_of
from primia_flwr.primitives.keys import digest
from primia_flwr.secagg.payload.masks import add_mask

VECTOR = "vector"  # what travels in place of a model's arrays: numbers of an update, float32
_BITS = "bits"  # beside them where each site chooses its own: one bit for each number of the update
PLACES = "shared-places"  # in a message: the numbers that the last round changed most, as bits
SINCE = "shared-rounds"  # in a message: the last round whose mean each site was in, by the roster

Places = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float32]


def drawn_places(experiment: Experiment, entries: int, number: int, told: Places) -> Places:
    """Return the places of the numbers that all sites send in a round, in ascending order.

    They are drawn without putting back: all get their turn before one comes twice. A model whose
    numbers are of rounds far apart is none that any site has trained.

    Parameters
    ----------
    experiment : Experiment
        Its seed and its share.
    entries : int
        Numbers of the whole update, d.
    number : int
        The round's.
    told : ndarray
        Places that are among them in any case; the others are drawn.
    """
    count = experiment.aggregation.num_shared(entries)
    drawn = count - num_told(experiment, entries)
    deal, turn = divmod(number - 1, -(-entries // drawn))
    order = np.zeros(entries, np.uint64)
    add_mask(order, digest("primia shared numbers v2", experiment.seed, deal))
    order -= np.partition(order, turn * drawn)[turn * drawn]  # those of earlier turns come last
    order |= np.uint64(1)
    order[told] = 0  # before all others
    return _first(order, count)


def largest_places(numbers: Numbers, count: int) -> Places:
    """Return the places of the `count` numbers of largest magnitude, in ascending order.

    Of equal ones the first; zeros are never among them.
    """
    size = np.abs(numbers).view(np.uint32)  # the bits of floats above zero are in their order
    return _first(np.uint32(2**32 - 1) - size, min(count, int(np.count_nonzero(size))))


def _first(order: npt.NDArray[np.unsignedinteger], count: int) -> Places:
    """Return the places of the `count` smallest words, ascending; of equals the first."""
    if count == 0:
        return np.empty(0, np.int64)
    last = np.partition(order, count - 1)[count - 1]
    taken = order < last
    taken[np.flatnonzero(order == last)[: count - int(taken.sum())]] = True
    return np.flatnonzero(taken)


def told_text(places: Places, entries: int) -> str:
    """Return places as the text that a message holds: base64 of a bit for each number."""
    return base64.b64encode(_bits(places, entries).tobytes()).decode()


def num_told(experiment: Experiment, entries: int) -> int:
    """Return how many of a round's places the round before decides: half of them, or none."""
    aggregation = experiment.aggregation
    return aggregation.num_shared(entries) // 2 if aggregation.share_by == "change" else 0


def told_places(config: ConfigRecord, experiment: Experiment, entries: int) -> Places:
    """Return the places that a message names; none where all are drawn.

    Raises
    ------
    ProtocolError
        If the bits are not there, or name more than half of the places of a round.
    """
    most = num_told(experiment, entries)
    if not most:
        return np.empty(0, np.int64)
    text = config.get(PLACES)
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        raw = b""
    return _places(np.frombuffer(raw, np.uint8), entries, range(most + 1))


def own_part(update: Numbers, places: Places) -> ArrayRecord:
    """Return a site's own choice of an update's numbers, with their places."""
    return held({VECTOR: update[places], _BITS: _bits(places, update.size)})


def own_form(entries: int, count: int) -> dict[str, npt.NDArray[np.generic]]:
    """Return arrays of the shapes and types of `own_part`."""
    bits = np.zeros((entries + 7) // 8, np.uint8)
    return {VECTOR: np.zeros(count, np.float32), _BITS: bits}


def own_whole(part: ArrayRecord, entries: int) -> Numbers:
    """Return what `own_part` was given, zeros where nothing was sent.

    Raises
    ------
    ProtocolError
        If the bits do not name as many numbers as there are.
    """
    arrays = values_of(part)
    count = arrays[VECTOR].size
    places = _places(arrays[_BITS], entries, range(count, count + 1))
    return whole(arrays[VECTOR], places, entries)


def whole(numbers: Numbers, places: Places, entries: int) -> Numbers:
    """Return an update that has these numbers in these places, and zeros elsewhere."""
    update = np.zeros(entries, np.float32)
    update[places] = numbers
    return update


def last_round(config: ConfigRecord, experiment: Experiment, site: str, number: int) -> int:
    """Return the last round before `number` whose mean a site was in, as a message says; 0: none.

    Raises
    ------
    ProtocolError
        If the message does not say it.
    """
    rounds, sites = config.get(SINCE), experiment.federation.sites
    fits = isinstance(rounds, list) and len(rounds) == len(sites) and site in sites
    found = rounds[sites.index(site)] if fits and isinstance(rounds, list) else None
    if type(found) is int and 0 <= found < number:
        return found
    raise ProtocolError(
        f"{SINCE}={rounds!r:.60}; expected for each of the {len(sites)} sites a round from 0 to "
        f"{number - 1}"
    )


def _bits(places: Places, entries: int) -> npt.NDArray[np.uint8]:
    taken = np.zeros(entries, np.bool_)
    taken[places] = True
    return np.packbits(taken)


def _places(bits: npt.NDArray[np.uint8], entries: int, counts: range) -> Places:
    """Return the places that bits name, where there are as many as may be.

    Raises
    ------
    ProtocolError
        If there are not, or the bits are for another number of entries.
    """
    if bits.size != (entries + 7) // 8:
        raise ProtocolError(
            f"the places of shared numbers have {bits.size} bytes; expected "
            f"{(entries + 7) // 8}, a bit for each of {entries} numbers"
        )
    taken = np.unpackbits(bits)
    places = np.flatnonzero(taken)
    if places.size not in counts or taken[entries:].any():
        raise ProtocolError(
            f"the bits name {places.size} shared numbers of {entries}; expected {counts[0]} to "
            f"{counts[-1]}"
        )
    return places
