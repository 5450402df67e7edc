"""What may leave a site, by the run's mode: the one table that the mods and the handlers ask.

| run | update | measurements | may rest, and says why it failed in a simulation |
| --- | --- | --- | --- |
| plain | in the clear | in the clear | yes |
| secure aggregation | masked | in masked sums | no: the fewer train, the more a sum shows |
| differential privacy, always secure | masked, noised, charged for | none | no |

A search changes what is trained, not what leaves. A site decides by what it was told and by its own
policy, whichever protects more; what a message asks for beyond that is refused.
"""

from dataclasses import dataclass

from primia_flwr.config.experiment.schema import Experiment


@dataclass(frozen=True)
class Leaving:
    """What leaves a site in one run.

    `masked`: nothing leaves but vectors under masks. `noised`: nothing leaves but what a ledger has
    charged for. `searched`: each message names a configuration.
    """

    masked: bool
    noised: bool
    searched: bool

    @property
    def may_rest(self) -> bool:
        """Whether a site may answer a round without training."""
        return not self.masked

    @property
    def says_why(self) -> bool:
        """Whether a simulated site, which is the researcher's own, says why it failed."""
        return not self.masked


def leaving(experiment: Experiment) -> Leaving:
    """Return what may leave a site in a run of an experiment."""
    return Leaving(
        masked=experiment.aggregation.secure,
        noised=experiment.privacy.enabled,
        searched=experiment.search.enabled,
    )
