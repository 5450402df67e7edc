"""How far a simulated site is, for the live view of the same machine; a real site tells nobody."""

import json
from collections.abc import Callable

from clients.leaving import leaving
from clients.site.opened import OpenSite
from primia_flwr.storage.atomic import write_atomic
from primia_flwr.training.fit import Progress


def progress_writer(site: OpenSite, round_number: int) -> Callable[[Progress], None] | None:
    """Return a callback that writes `progress.json` into a simulated site's folder.

    In a private run it has the steps, which are public, and no speed; where the number of batches
    follows from the images (`dp_aggregate`) there is none.
    """
    privacy = site.experiment.privacy
    if not site.simulated or privacy.mode == "dp_aggregate":
        return None
    path = site.folder / "progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(progress: Progress) -> None:
        values: dict[str, float] = {
            "round": round_number,
            "batch": progress.batch,
            "batches": progress.num_batches,
        }
        if not leaving(site.experiment).noised:
            values["images_per_second"] = progress.images_per_second
        write_atomic(path, json.dumps(values))

    return write
