"""Updates by how near they are to their neighbours, with distances in float64.

Flower's Krum has |x|^2 + |y|^2 - 2 x.y of whole models in float32. Models are large beside what a
round changes, so that distances of small updates are rounding errors, and any update is chosen.

Source: Blanchard et al. 2017, Machine Learning with Adversaries.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from scipy.spatial.distance import pdist, squareform

from strategies.averaging.weighted_fedavg import WeightedFedAvg

_COLUMNS = 1 << 20  # numbers of each update that are in float64 at once


class NearestUpdates(WeightedFedAvg):
    """Multi-Krum: the weighted mean of the updates that are nearest to their neighbours.

    `num_malicious`: how many sites may lie, f. `num_selected`: how many updates are averaged.
    """

    def __init__(self, *, num_malicious: int, num_selected: int, **asks: object) -> None:
        super().__init__(**asks)  # type: ignore[arg-type]
        self._num_malicious, self._num_selected = num_malicious, num_selected

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the chosen replies' arrays; (None, None) if no reply has content."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        contents = [reply.content for reply in valid]
        chosen = nearest(contents, self._num_malicious, self._num_selected) if contents else []
        taken = [reply for reply in valid if any(reply.content is one for one in chosen)]
        return super().aggregate_train(server_round, taken)


def nearest(contents: Sequence[RecordDict], liars: int, selected: int) -> list[RecordDict]:
    """Return those of the smallest scores; of equal ones the first.

    A score is the sum of an update's squared distances to its n - f - 2 nearest others, at least
    one. `contents`: of n replies, one array record each. `liars`: f. `selected`: how many.
    """
    distances = squared_distances([next(iter(one.array_records.values())) for one in contents])
    neighbours = max(1, len(contents) - liars - 2)
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, :neighbours].sum(axis=1)
    return [contents[place] for place in np.argsort(scores, kind="stable")[:selected]]


def squared_distances(records: Sequence[ArrayRecord]) -> npt.NDArray[np.float64]:
    """Return the squared L2 distance of each two models, (n, n) float64: sums of squares."""
    pairs = np.zeros(len(records) * (len(records) - 1) // 2)
    for name in records[0]:
        flat = [record[name].numpy().ravel() for record in records]
        for start in range(0, flat[0].size, _COLUMNS):
            rows = np.stack([row[start : start + _COLUMNS] for row in flat]).astype(np.float64)
            pairs += pdist(rows, "sqeuclidean")
    return np.asarray(squareform(pairs), np.float64)
