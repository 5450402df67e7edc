"""What a hospital of a relay is handed, and the newest model before it that it knew.

A relay in the open is recorded by its coordinator; what it carried is what the neighbours got. A
hospital knows the model with which a cycle begins, because all validate it, and its own.
"""

from pathlib import Path

from primia_flwr.runs.received import MODEL, rounds_of, sites_of_round, trained_from


def handed_on(run_dir: Path) -> list[tuple[str, int]]:
    """Return the models that were handed on, as (site that trained last, round).

    Those in which fewest sites' steps are new to the neighbour come first.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    rounds = rounds_of(run_dir)
    every = [
        (site, number)
        for number in rounds
        for place, site in enumerate(order_of(run_dir, number), 1)
        if place < len(sites_of_round(run_dir, number)) or number < rounds[-1]
    ]
    return sorted(every, key=lambda one: len(known_before(run_dir, *one)[1]))


def known_before(run_dir: Path, site: str, server_round: int) -> tuple[str, tuple[str, ...]]:
    """Return the newest file that the next hospital knew, and the sites that trained since.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    order = order_of(run_dir, server_round)
    since = order[: order.index(site) + 1]
    following = order_of(run_dir, server_round + 1)[:1] if since == order else []
    if following and following[0] in since:  # it has trained in this cycle itself
        own = following[0]
        after = since[since.index(own) + 1 :]
        return (own, tuple(after)) if after else (MODEL, tuple(since))
    return MODEL, tuple(since)


def order_of(run_dir: Path, server_round: int) -> list[str]:
    """Return the sites of a cycle in the order in which they trained; none of one not recorded.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    sites = sites_of_round(run_dir, server_round)
    following = {trained_from(run_dir, server_round, site): site for site in sites}
    order, last = list[str](), ""
    while last in following and len(order) < len(sites):
        last = following[last]
        order.append(last)
    return order
