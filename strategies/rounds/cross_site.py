"""Validate the federated model, and each site's own, on every site's validation images.

Nothing new is asked of a site: it answers ordinary evaluate messages with counts of its own. But
it receives the models of the other sites, and the coordinator the counts of single sites; both
are only possible where updates are averaged in the open. A site's own model is what it sent for
averaging last: the federated model after its local training, not one that never left it.
"""

import logging
from dataclasses import replace

from flwr.app import ConfigRecord

from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.keys import OWN_ROUND
from primia_flwr.runs.cross_site import FEDERATED, Cell, CrossSite, ModelRow
from primia_flwr.runs.history import SiteRow
from strategies.aggregators.aggregator import Aggregator, Request, SiteModel

logger = logging.getLogger(__name__)


def cross_site_matrix(
    aggregator: Aggregator, request: Request, grid: RosterGrid, best_round: int
) -> CrossSite:
    """Ask the selected sites for their verdict on one model after the other.

    `aggregator`: one that keeps the sites' models. `request`: with the federated model; everything
    but its arrays is asked of the others, too. `grid`: whose selected sites are asked. One that
    does not answer leaves empty cells. `best_round`: the round of the federated model.
    """
    models = aggregator.compared(request.arrays, best_round)
    if len(models) == 1:
        logger.warning("cross-site matrix: no site has sent a model since the coordinator started")
    rows = [
        ModelRow(name, model.server_round, _verdicts(aggregator, request, grid, model))
        for name, model in models.items()
    ]
    sites = sorted({site for row in rows for site in row.cells} | models.keys() - {FEDERATED})
    return CrossSite(tuple(sites), tuple(rows), aggregator.task.name, aggregator.outputs)


def _verdicts(
    aggregator: Aggregator, request: Request, grid: RosterGrid, model: SiteModel
) -> dict[str, Cell]:
    config = ConfigRecord({**request.config, OWN_ROUND: model.server_round})
    asked = replace(request, arrays=model.arrays, config=config)
    outcome = aggregator.evaluate(asked, grid, _unheard)
    return {site: Cell(found) for site, found in outcome.validations.items()}


def _unheard(row: SiteRow) -> None:
    """Leave the answers out of the history: they are no part of a round."""
    if not row.good:
        logger.warning("cross-site matrix: %s: %s (%s)", row.site, row.status, row.reason)
