"""What a run's secure sums showed and hid, in plain words for those who must answer for it.

What is not protected is docs/secure-aggregation.md in short; the two must say the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from primia_flwr.runs.secure_sums import (
    EVALUATE,
    STATISTICS,
    TRAIN,
    Change,
    SumRow,
    changes,
    totals,
)
from primia_flwr.tasks.task import Task

_KINDS = {
    STATISTICS: ("statistics", "Pixel statistics"),
    TRAIN: ("training", "Training"),
    EVALUATE: ("validation", "Validation of the last model"),
}
_NUMBERS = {
    "count": "pixels",
    "levels": "pixel values",
    "squared-levels": "their squares",
    "side-counts": "training images by their size as stored",
    "num-val": "validation images",
    "weight": "weights in the mean",
    "resting": "votes to stop",
    "examples": "images (rounded)",
    "batches": "batches",
    "images": "images gone through",
    "stopped-early": "sites that stopped a round early",
    "seconds": "seconds of training",
    "weighted-train-loss": "training losses times weight",
    "incoming-examples": "images that the common model was validated on",
    "incoming-loss-sum": "its losses",
    "local-examples": "images that the sites' own models were validated on",
    "local-loss-sum": "their losses",
}
_WHOSE = {"incoming": "its", "local": "their"}
_NAMES_SHOWN, _CHANGES_SHOWN = 12, 12


@dataclass(frozen=True)
class _Chapter:
    """A heading and what there is to say under it, one point after the other."""

    title: str
    points: list[str]


def account(rows: Sequence[SumRow], task: Task, *, one_machine: bool) -> list[_Chapter]:
    """Return what the coordinator saw, what it could not see, if what holds, and what is open.

    Parameters
    ----------
    rows : sequence of SumRow
        At least one.
    task : Task
        Which sums travel besides.
    one_machine : bool
        Whether one machine held all sites: a simulation, or a trial of a federation.
    """
    return [
        _Chapter("What the coordinator saw", _saw(rows, task)),
        _Chapter("What it could not see", _unseen(task)),
        _Chapter("Under which conditions this holds", _conditions(rows, one_machine=one_machine)),
        _Chapter("What is not protected", _unprotected(rows, task)),
    ]


def _saw(rows: Sequence[SumRow], task: Task) -> list[str]:
    sites = sorted({name for row in rows for name in (*row.asked, *row.members)})
    points = [
        f"The names of the {len(sites)} sites ({_names(sites)}); which of them answered, left or "
        "refused, with the kind of error; times and sizes of their messages.",
        "Of each site, for each sum: fresh public keys, signed with the site's identity key.",
        "Sealed shares that the sites address to each other: it hands them on and cannot open "
        "them.",
        "Each site's masked vectors: words that cannot be told from random ones.",
        "The shares that take the masks off a sum: for a site in the sum those of its own mask, "
        "for one that dropped out those of its masks with others, never both of one site.",
    ]
    points += _when_ready(rows)
    signed = sum(row.signatures > 0 for row in rows)
    if signed:
        points.append(f"The sites' signatures on who is in a sum ({signed} with dropouts).")
    points += [_sums_of(kind, rows, task) for kind in dict.fromkeys(r.kind for r in rows if r.good)]
    if given_up := sum(not row.good for row in rows):
        points.append(
            f"Given up, {given_up}: masked vectors at most; but where the reason is that a sum was "
            "not plausible, it has seen that sum."
        )
    return points


def _when_ready(rows: Sequence[SumRow]) -> list[str]:
    """Say what a buffered run tells of each site; nothing of another."""
    ages = [age for row in rows if row.good for age in row.ages.values()]
    if not ages:
        return []
    return [
        "When the update of each site was ready, which is how long it trains, and of which round's "
        f"model it is: of {len(ages)} updates in sums {sum(age > 0 for age in ages)} were of an "
        f"earlier round, at most {max(ages):g} rounds old."
    ]


def _mixed(rows: Sequence[SumRow]) -> list[str]:
    """Say what sums over updates of different rounds give up; nothing where there were none."""
    mixed = sum(row.good and len(set(row.ages.values())) > 1 for row in rows)
    if not mixed:
        return []
    return [
        f"Sums over updates of different rounds' models, here {mixed}: of the others' models a "
        "site knows nothing, and by the different weights of the same sites in several sums a "
        "coordinator that lies tells their updates apart. Sites are in such sums only where their "
        "policies say so (allow_mixed_rounds)."
    ]


def _sums_of(kind: str, rows: Sequence[SumRow], task: Task) -> str:
    chosen = [row for row in rows if row.good and row.kind == kind]
    last = chosen[-1]
    over = _span(len(row.summed) for row in chosen)
    times = f"{len(chosen)} sums" if len(chosen) > 1 else "one sum"
    if kind == EVALUATE and any(row.numbers == last.numbers for row in rows if row.kind == TRAIN):
        parts = ["the same numbers as in training, no updates"]
    else:
        parts = [f"the updates ({last.entries:,} entries)"] if last.entries else []
        words = _NUMBERS | _words_of(task)
        parts += [words.get(name, name) for name in last.numbers]
    long = _KINDS.get(kind, ("", kind))[1]
    return f"{long}, {times} over {over} sites: {', '.join(parts)}."


def _words_of(task: Task) -> dict[str, str]:
    """Return what the task's numbers are, by the names under which they travel."""
    return {"label-counts": task.label_sum(1).words} | {
        f"{prefix}-{found.name}": f"{whose} {found.words}"
        for prefix, whose in _WHOSE.items()
        for found in task.sums(1)
    }


def _unseen(task: Task) -> list[str]:
    return [
        "Any image: none leaves a site.",
        "The update of one site, from which the model that it trained would follow.",
        "Any of the numbers above of one site: its pixel statistics, image counts and weight, its "
        f"losses and {task.counted}, its vote to stop.",
    ]


def _conditions(rows: Sequence[SumRow], *, one_machine: bool) -> list[str]:
    colluding = max(row.max_colluding for row in rows)
    floor = min(row.min_survivors for row in rows)
    smallest = totals(rows).smallest_sum
    helpers = f"At most {colluding} of the sites work" if colluding else "No site works"
    points = [_identities(one_machine)]
    if any(row.audit_error is not None for row in rows):
        points.append(
            "The sums were audited: each simulated site also wrote its bare update down, and the "
            "coordinator compared. So here it did see them; without audit it does not."
        )
    points += [
        f"{helpers} together with a coordinator that lies (max_colluding={colluding}).",
        f"No sum is over fewer than {floor} sites (min_survivors={floor}): each site refuses it. "
        + (f"The smallest here was over {smallest}. " if smallest else "")
        + "All sites of a sum but one, together, can always work out that one's part.",
    ]
    if masked := [row for row in rows if row.members]:
        points += [_threshold(masked), _graph(masked)]
    return points


def _threshold(masked: Sequence[SumRow]) -> str:
    needed = _span(row.threshold for row in masked)
    if any(row.sparse for row in masked):
        return (
            f"A mask comes off with the shares of {needed} sites near it (the threshold; each site "
            "refuses one that its colluding neighbours could reach, but for a chance of 2^-41)."
        )
    return (
        f"A mask comes off with the shares of {needed} sites (the threshold; each site refuses "
        "one that one colluding site more than max_colluding could get around). With a "
        "coordinator that keeps to the protocol, fewer sites than that learn nothing by helping it "
        "but the sum of the others."
    )


def _graph(masked: Sequence[SumRow]) -> str:
    sparse = [row for row in masked if row.sparse]
    if not sparse:
        return "Each site masked with every other (complete graph)."
    return (
        f"Each site masked with at least {min(row.neighbours for row in sparse)} others, not with "
        "all (sparse graph): this holds against a coordinator that keeps to the protocol, not "
        "against one that lies."
    )


def _identities(one_machine: bool) -> str:
    if one_machine:
        return (
            "One machine held all sites, with their images and identity keys (a simulation or a "
            "trial). It shows what the coordinator of a real federation would see; it protects "
            "no site from those who run the machine."
        )
    return (
        "Identity keys that came with the start-up kits were made by primia provision. A "
        "coordinator that kept copies can sign as those sites: against one that lies, all this is "
        "worth as much as the promise that the copies were deleted; against one that only looks, "
        "it holds. Sites that made their own (primia site identity) do not depend on it."
    )


def _unprotected(rows: Sequence[SumRow], task: Task) -> list[str]:
    found = changes(rows)
    changed = "; ".join(_in_words(change) for change in found[:_CHANGES_SHOWN])
    if more := len(found[_CHANGES_SHOWN:]):
        changed += f"; and {more} times more"
    seen = f" It happened here: {changed}." if changed else " It did not happen in this run."
    return [
        "A crafted model, shown to all sites: what is said of sums holds with an honest "
        "coordinator. The sum over a crafted model can be one image's gradient, and only "
        "differential privacy bounds that (primia attack target=crafted_model measures it).",
        *_mixed(rows),
        "Poisoned updates: nobody can look at a single one any more.",
        "A change of members between sums: their difference tells something about who left or "
        "came, and nearly everything where both start from nearly the same model, in this run or "
        f"another. Sites answer such lists only where their policies say so.{seen}",
        f"Small sums: with few sites or few images, sums of {task.counted} say something about "
        "single images.",
        "The final model, and what follows from it.",
        "Who trained when, and for how long, from which the number of images can be guessed.",
        "A bundle that a hospital approved without reading it: it can send what it likes.",
        "More on this: docs/secure-aggregation.md, 'What is not protected'.",
    ]


def label(row: SumRow) -> str:
    """Return what a sum is called in a table, e.g. `training 3`."""
    short = _KINDS.get(row.kind, (row.kind, ""))[0]
    return f"{short} {row.round}" if row.round else short


def _in_words(change: Change) -> str:
    moved = [f"without {name}" for name in change.left]
    moved += [f"with {name}" for name in change.joined]
    return f"{label(change.row)} {', '.join(moved)}"


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES_SHOWN
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown} and {rest} more" if rest > 0 else shown


def _span(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
