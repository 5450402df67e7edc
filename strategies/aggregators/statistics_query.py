"""The statistics query: who is there, what the pixels look like, how many images of each class.

Asked once of every node; the answer also introduces the node under its site's name. The
normalisation that follows from the first answers stays fixed for the whole run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from primia_flwr.data.fingerprint.sums import Counts, length
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import ProtocolError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.keys import CONFIG, METRICS, NUM_VAL, SITE, SITE_NAME, STATISTICS
from primia_flwr.runs.history import LATE, REJECTED, SiteRow
from primia_flwr.tasks.task import Task
from strategies.aggregators.reply_validator import clean, error_row, number


@dataclass(frozen=True)
class SiteSums:
    """A site's contribution to the statistics: pixel sums of its training images."""

    sums: PixelSums
    num_val: int
    images: int

    def describe(self, name: str) -> dict[str, Any]:
        """Return the counts of images, for the record."""
        counts = [int(count) for count in self.sums.label_counts]
        return {"site": name, "train": self.images, "val": self.num_val, "label_counts": counts}


_QUERY = f"{MessageType.QUERY}.{STATISTICS}"
_MOST_PIXELS = 1e15


def ask_statistics(
    grid: RosterGrid,
    nodes: list[int],
    *,
    channels: int,
    outputs: int,
    task: Task,
    timeout: float,
    enough: int = 0,
    volumes: bool = False,
) -> dict[int, SiteSums | SiteRow]:
    """Ask nodes for their names and sums, and introduce those that answer well to the grid.

    `volumes`: they count their volumes, too.

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
    answers = grid.ask(messages, timeout=timeout, enough=enough)
    for answer in sorted(answers, key=lambda answer: answer.node):
        node, reply = answer.node, answer.message
        if reply.has_error():
            result[node] = error_row(0, grid.name_of(node), reply)
            continue
        try:
            sums = read_sums(
                reply.content, channels=channels, outputs=outputs, task=task, volumes=volumes
            )
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


def read_sums(
    content: RecordDict, *, channels: int, outputs: int, task: Task, volumes: bool = False
) -> SiteSums:
    """Read and check one site's statistics.

    Raises
    ------
    ProtocolError
        If a sum is missing, of another length, negative, not finite, or there are no images.
    """
    metrics = content.metric_records.get(METRICS, MetricRecord())
    sums = PixelSums.from_dict(cast(Mapping[str, Iterable[float]], metrics))
    lengths, labels = (len(sums.total), len(sums.label_counts)), task.label_sum(outputs).size
    if lengths != (channels, labels):
        raise ProtocolError(
            f"statistics of {lengths[0]} channels and {lengths[1]} classes; expected {channels} "
            f"and {labels}, as configured in data.channels and data.classes"
        )
    _check_volumes(sums.volume_counts, outputs if volumes else 0)
    images = task.labelled(sums.label_counts)
    num_val = number(metrics, NUM_VAL)
    if not 0 < images <= sums.count <= _MOST_PIXELS or not 0 <= num_val <= _MOST_PIXELS:
        raise ProtocolError(
            f"{sums.count:g} pixels, {images:g} training and {num_val:g} validation images; "
            "expected a site with training images"
        )
    return SiteSums(sums, int(num_val), int(images))


def _check_volumes(vector: tuple[float, ...], classes: int) -> None:
    """Refuse counts of volumes that nobody asked for, or that are none; `classes`: 0 for none."""
    expected = length(classes) if classes else 0
    if len(vector) != expected:
        raise ProtocolError(
            f"{len(vector)} counts of volumes; expected {expected}, as data.volumes.fingerprint "
            "and data.classes say"
        )
    if not vector:
        return
    try:
        Counts.read(vector)
    except ValueError as error:
        raise ProtocolError(f"counts of volumes: {error}") from None
