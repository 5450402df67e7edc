"""Which lists of sites a site helps to add up, so that no few of them follow from several sums.

Whoever has the sum over {A, B, C, D} and the sum over {A, B, C} of nearly the same model has D's
update. So the sites that were always in a sum together, or out of it together, stay together: they
are a *block*. Every sum and difference that follows from the sums given out is one over whole
blocks, so it hides each site among the others of its block.

Source: So et al. 2023, Securing Secure Aggregation: Mitigating Multi-Round Privacy Leakage in
Federated Learning (AAAI), batch partitioning; here blocks follow from the lists answered before.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

Sites = frozenset[str]


def blocks(lists: Iterable[Collection[str]]) -> list[Sites]:
    """Return the sites that are on exactly the same of the lists, by what they are on; sorted.

    Sites on none of them do not appear.
    """
    known = [frozenset(one) for one in lists]
    together: dict[tuple[bool, ...], set[str]] = defaultdict(set)
    for site in frozenset[str]().union(*known):
        together[tuple(site in one for one in known)].add(site)
    return sorted((frozenset(block) for block in together.values()), key=sorted)


def too_small(
    asked: Collection[str], answered: Sequence[Collection[str]], *, least: int
) -> Sites | None:
    """Return sites that could be told apart if a list were answered too; None where it is safe.

    Parameters
    ----------
    asked : collection of str
        The list of sites to add up.
    answered : sequence of collections of str
        The lists that were answered before.
    least : int
        Sites among which each must stay hidden, `min_survivors`.
    """
    if frozenset(asked) in {frozenset(one) for one in answered}:
        return None  # a list that was answered adds nothing
    small = [block for block in blocks([*answered, asked]) if len(block) < least]
    return min(small, key=lambda block: (len(block), sorted(block)), default=None)


def largest_safe(
    present: Collection[str], answered: Sequence[Collection[str]], *, least: int
) -> Sites:
    """Return the most of the present sites that may be added up next; nobody where none may.

    A block that is there in part goes on without `least` of its sites, if as many are left. Sites
    that are on no list yet come in together, `least` of them or more.
    """
    there = frozenset(present)
    if not answered:
        return there
    chosen: set[str] = set()
    for block in blocks(answered):
        inside, outside = sorted(block & there), len(block - there)
        spare = max(least - outside, 0) if outside else 0
        kept = inside[: len(inside) - spare] if spare <= len(inside) else []
        chosen.update(kept if not outside or len(kept) >= least else ())
    new = there - frozenset[str]().union(*map(frozenset, answered))
    chosen.update(new if len(new) >= least else ())
    safe = frozenset(chosen)
    return safe if too_small(safe, answered, least=least) is None else frozenset()
