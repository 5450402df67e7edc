"""Who votes in an ensemble, and with which weight. Imports no torch.

Source of `insulearn`: Amir-Khalili et al. 2017, "Scalable and fault
tolerant platform for distributed learning on private medical data": the sites rank one
another's models; who is worse than the median has no vote, the others vote by rank and size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from primia_flwr.errors import ProtocolError


@dataclass(frozen=True)
class Votes:
    """The members of an ensemble by name, the weight of each, and the task that they are of.

    `vote`: how the weights came about. They are at least 0 and add up to 1.
    """

    task: str
    vote: str
    members: tuple[str, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        good = all(type(w) is float and math.isfinite(w) and w >= 0 for w in self.weights)
        if not good or len(self.weights) != len(self.members) or not self.members:
            raise ValueError(f"weights={self.weights!s:.60}; expected one of at least 0 a member")
        if len(set(self.members)) != len(self.members):
            raise ValueError(f"members={self.members!s:.60}; expected different names")
        if abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights that add up to {sum(self.weights):g}; expected 1")

    @classmethod
    def of(cls, task: str, vote: str, weights: Mapping[str, float]) -> "Votes":
        """Return the votes of members with these weights, scaled so that they add up to 1."""
        total = sum(weights.values())
        names = tuple(sorted(weights))
        return cls(task, vote, names, tuple(float(weights[name] / total) for name in names))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Votes":
        """Rebuild it from its plain values; raises KeyError, TypeError or ValueError."""
        members, weights = values["members"], values["weights"]
        if not all(type(name) is str for name in members):
            raise ValueError(f"members={members!s:.60}; expected names")
        task, vote = str(values["task"]), str(values["vote"])
        return cls(task, vote, tuple(members), tuple(weights))


def by_rank(
    scores: Mapping[str, Mapping[str, float]], sizes: Mapping[str, float]
) -> dict[str, float]:
    """Return the weights of models that the sites have judged.

    A site ranks the models of the others, the best with the highest rank, equal ones with the mean
    of theirs. A model's rank is the mean over its judges, in parts of the number that was ranked.
    Below the median of all it has weight 0; otherwise rank times the images of its site.

    Parameters
    ----------
    scores : mapping of model to mapping of site to number
        The higher, the better. A site's verdict on its own model does not count.
    sizes : mapping of site to number
        Training images.

    Raises
    ------
    ProtocolError
        If a model was judged by no other site.
    """
    ranks = dict[str, list[float]]({model: [] for model in scores})
    for judge in sorted({site for row in scores.values() for site in row}):
        judged = {m: row[judge] for m, row in scores.items() if judge in row and m != judge}
        for model, value in judged.items():
            ranks[model].append(_rank(value, list(judged.values())))
    alone = sorted(model for model, found in ranks.items() if not found)
    if alone:
        raise ProtocolError(
            f"no other site has judged the model of {alone[0]}; expected at least two sites with "
            "validation images beside it, or vote=size"
        )
    means = {model: fmean(found) for model, found in ranks.items()}
    least = median(means.values())
    return {m: (rank * sizes[m] if rank >= least else 0.0) for m, rank in means.items()}


def _rank(value: float, values: Sequence[float]) -> float:
    """Return the mean rank of a value among values, from 1 / n for the lowest to 1."""
    below, equal = sum(v < value for v in values), sum(v == value for v in values)
    return (below + (equal + 1) / 2) / len(values)
