"""How far a simulated site is, for the live view of the same machine; a real site tells nobody."""

import json
from collections.abc import Callable

from clients.leaving import leaving
from clients.site.opened import OpenSite
from primia_flwr.storage.atomic import write_atomic
from primia_flwr.training.fit import Progress


def progress_writer(site: OpenSite, round_number: int) -> Callable[[Progress], None] | None:
    """Return a callback that writes `progress.json` into a simulated site's folder.

    It has what may leave in the run; None where that is nothing.
    """
    shown = leaving(site.experiment).progress
    if not site.simulated or not shown:
        return None
    path = site.folder / "progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(progress: Progress) -> None:
        at = {"round": round_number, "batch": progress.batch, "batches": progress.num_batches}
        values = {**at, "images_per_second": progress.images_per_second}
        write_atomic(path, json.dumps({k: v for k, v in values.items() if k in shown}))

    return write
