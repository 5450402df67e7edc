"""The update that is nearest to its neighbours (Blanchard et al. 2017).

Where f sites may lie the guarantee needs n >= 2 f + 3 updates. It takes over one site's parameters
unchanged and discards the others'. Normalisation buffers are not chosen with them: as with every
rule they are the weighted mean of all sites' that passed the validation of replies. Krum, the
median and the trimmed mean therefore protect the parameters only; where sites may lie, use
`model.norm=group` or `none`, which have no such buffers.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import Liars, Rule, outnumbered

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


def _build(options: Liars, experiment: Any) -> "Strategy":
    from strategies.averaging.nearest import NearestUpdates
    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return NearestUpdates(**ALL_SELECTED, num_malicious=options.num_malicious, num_selected=1)


RULE = Rule(_build, options=Liars, check=partial(outnumbered, times=2))
