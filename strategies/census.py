"""The statistics query: who is there, what the pixels look like, how many images of each class.

Asked once of every node; the answer also introduces the node under its site's name. The
normalisation that follows from the first answers stays fixed for the whole run.
"""

import math
from typing import cast

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import ProtocolError
from primia_flwr.federation.history import LATE, REJECTED, SiteRow
from primia_flwr.federation.roster_grid import RosterGrid
from primia_flwr.records import (
    CLASS_COUNTS,
    CONFIG,
    METRICS,
    SITE,
    SITE_NAME,
    STATISTICS,
    floats,
)
from strategies.exchange import SiteSums
from strategies.screening import clean, error_row, number

_QUERY = f"{MessageType.QUERY}.{STATISTICS}"


def ask_statistics(
    grid: RosterGrid, nodes: list[int], *, channels: int, num_classes: int, timeout: float
) -> dict[int, SiteSums | SiteRow]:
    """Ask nodes for their names and sums, and introduce those that answer well to the grid.

    Returns
    -------
    dict
        By node: its sums, or a row (round 0) that says why it has none.
    """
    messages = [
        Message(RecordDict({CONFIG: ConfigRecord()}), node, _QUERY, group_id="statistics")
        for node in nodes
    ]
    late = f"no answer to the statistics query within {timeout:g} s"
    result: dict[int, SiteSums | SiteRow] = {
        node: SiteRow(0, grid.name_of(node), LATE, late) for node in nodes
    }
    for answer in sorted(grid.ask(messages, timeout=timeout), key=lambda answer: answer.node):
        node, reply = answer.node, answer.message
        if reply.has_error():
            result[node] = error_row(0, grid.name_of(node), reply)
            continue
        try:
            sums = read_sums(reply.content, channels=channels, num_classes=num_classes)
            grid.introduce(node, site_name(reply.content))
            result[node] = sums
        except ProtocolError as error:
            result[node] = SiteRow(0, grid.name_of(node), REJECTED, clean(str(error)))
    return result


def site_name(content: RecordDict) -> str:
    """Return the name under which a site answers.

    Raises
    ------
    ProtocolError
        If there is none.
    """
    name = content.config_records.get(SITE, ConfigRecord()).get(SITE_NAME)
    if isinstance(name, str):
        return name
    raise ProtocolError(f"{SITE}.{SITE_NAME}={name!r}; expected the site's name")


def read_sums(content: RecordDict, *, channels: int, num_classes: int) -> SiteSums:
    """Read and check one site's statistics.

    Raises
    ------
    ProtocolError
        If a sum is missing, of another length, negative, not finite, or impossible.
    """
    metrics = content.metric_records.get(METRICS, MetricRecord())
    total = _sums(metrics, "total", channels)
    squares = _sums(metrics, "total-squares", channels)
    counts = _sums(metrics, CLASS_COUNTS, num_classes)
    count, num_val = number(metrics, "count"), number(metrics, "num-val")
    if count <= 0 or num_val < 0 or sum(counts) <= 0:
        raise ProtocolError(
            f"count={count:g}, num-val={num_val:g}, class-counts={counts}; expected a site with "
            "training images"
        )
    for one, square in zip(total, squares, strict=True):
        # Pixels lie in [0, 1], so n mean^2 <= sum of squares <= sum <= n.
        if not one**2 / count <= square * (1 + 1e-6) <= one * (1 + 1e-5) <= count * (1 + 1e-4):
            raise ProtocolError(
                f"total={one:g}, total-squares={square:g}, count={count:g}; expected sums of "
                "pixels between 0 and 1"
            )
    pixel_sums = PixelSums(
        count=count, total=total, total_squares=squares, class_counts=[int(n) for n in counts]
    )
    return SiteSums(pixel_sums, int(num_val))


def _sums(metrics: MetricRecord, key: str, length: int) -> list[float]:
    values = floats(cast(ConfigRecord, metrics), key)
    if len(values) == length and all(math.isfinite(value) and value >= 0 for value in values):
        return list(values)
    raise ProtocolError(f"{key}={list(values)[:8]}; expected {length} numbers of 0 or more")
