"""Which of the updates that are ready make a sum that their sites can give."""

from collections.abc import Callable, Collection, Sequence

from strategies.aggregators.asynchronous.ready import Ready

_Safe = Callable[[Collection[str]], Collection[str]]


def chosen(waiting: Sequence[Ready], buffer: int, *, mixed: bool, safe: _Safe) -> Collection[str]:
    """Return the sites of the next sum; nobody where none can be given.

    It is over the first `buffer` updates that have come, or the first that make it up: they must
    be of sites that may be added up together and, but with `mixed`, of the model of one round.

    Parameters
    ----------
    waiting : sequence of Ready
        In the order in which they came.
    buffer : int
        How many the sum takes, at least.
    mixed : bool
        They may be of models of different rounds.
    safe : callable
        Returns which of some sites may be added up.
    """
    for last in range(buffer, len(waiting) + 1):
        known = waiting[:last]
        for since in sorted({ready.since for ready in known}):
            sites = [ready.site for ready in known if mixed or ready.since == since]
            found = safe(sites)
            if len(found) >= buffer:
                return found
    return []
