"""Which lists of sites a site helps to add up, so that no few of them follow from several sums.

Whoever has the sum over {A, B, C, D} and the sum over {A, B, C} of nearly the same model has D's
update. So the first list that a site answers is cut into *batches* of `min_survivors` sites or
more, by name, and later lists are made of whole batches of it. Every sum and difference that
follows from the sums given out is then one over whole batches, and hides each site among the
others of its batch. The batches are fixed because a site sees only the lists that it is on: lists
that are safe one by one, each to those on it, may show a site together.

Source: So et al. 2023, Securing Secure Aggregation: Mitigating Multi-Round Privacy Leakage in
Federated Learning (AAAI), batch partitioning.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise

_Sites = frozenset[str]


def batches(first: Collection[str], *, least: int) -> list[_Sites]:
    """Return the batches of the first list: `least` sites each by name, the last with the rest."""
    names = sorted(first)
    count = max(len(names) // least, 1)
    cuts = [least * index for index in range(count)] + [len(names)]
    return [frozenset(names[start:end]) for start, end in pairwise(cuts)]


def shown(asked: Collection[str], answered: Sequence[Collection[str]], *, least: int) -> _Sites:
    """Return the sites that could be told apart if a list were answered too; nobody if it is safe.

    Parameters
    ----------
    asked : collection of str
        The list of sites to add up.
    answered : sequence of collections of str
        The lists that were answered before, the first one first.
    least : int
        Sites among which each must stay hidden, `min_survivors`.
    """
    wanted = frozenset(asked)
    if not answered or wanted in {frozenset(one) for one in answered}:
        return frozenset()  # a list that was answered adds nothing
    first = frozenset(answered[0])
    torn = [batch for batch in batches(first, least=least) if batch & wanted and batch - wanted]
    missing = frozenset[str]().union(*(batch - wanted for batch in torn))
    return missing | (wanted - first)


def largest_safe(
    present: Collection[str], answered: Sequence[Collection[str]], *, least: int
) -> _Sites:
    """Return the most of the present sites that may be added up next; nobody where none may."""
    there = frozenset(present)
    if not answered:
        return there
    whole = [batch for batch in batches(answered[0], least=least) if batch <= there]
    return frozenset[str]().union(*whole)
