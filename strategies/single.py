"""Single weight transfer: the model visits each site once, and is trained there to the end.

Source: Chang et al. 2018, https://doi.org/10.1093/jamia/ocy017
"""

from dataclasses import replace
from typing import Any

from primia_flwr.config.rules import RelayOrder
from primia_flwr.errors import ConfigError
from strategies.cyclic import RULE as CYCLIC


def _check(options: RelayOrder, experiment: Any) -> None:
    rounds, epochs = experiment.federation.rounds, experiment.training.local_epochs
    if rounds != 1:
        raise ConfigError(
            f"strategy.name=single with federation.rounds={rounds}; expected one pass over the "
            f"sites; set federation.rounds=1 and training.local_epochs={rounds * epochs} for as "
            "many image passes, or strategy=cyclic"
        )
    options.check(experiment)


RULE = replace(CYCLIC, check=_check)
