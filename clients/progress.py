"""How far a simulated site is, for the live view of the same machine; a real site tells nobody."""

import json
import os
from collections.abc import Callable

from clients.site import OpenSite
from primia_flwr.training.fit import Progress


def progress_writer(site: OpenSite, round_number: int) -> Callable[[Progress], None] | None:
    """Return a callback that writes `progress.json` into a simulated site's folder."""
    if not site.simulated:
        return None
    path = site.folder / "progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(progress: Progress) -> None:
        draft = path.with_suffix(".tmp")
        draft.write_text(
            json.dumps(
                {
                    "round": round_number,
                    "batch": progress.batch,
                    "batches": progress.num_batches,
                    "images_per_second": progress.images_per_second,
                }
            )
        )
        os.replace(draft, path)

    return write
