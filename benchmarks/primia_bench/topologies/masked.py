"""Digit sites behind the code that a real site has for secure sums."""

from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.mods.buffered import answer_buffer
from clients.mods.secagg import answer_protocol, secagg_mod
from primia_bench.topologies.digit_sites import CLASSES, DigitSite
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import to_yaml
from primia_flwr.messages.keys import OUTPUTS


class MaskedSite(DigitSite):
    """A site whose update waits, and leaves it in a sum only.

    Parameters
    ----------
    site : DigitSite
        What it has.
    experiment : Experiment
        As the launcher writes it down, with the identities of the sites.
    """

    def __init__(self, site: DigitSite, experiment: Experiment) -> None:
        super().__init__(site.name, site.data, site.epochs, site.seed, site.digits)
        index = experiment.federation.sites.index(site.name)
        node = {"partition-id": index}
        run = {"config": to_yaml(experiment)}
        self._context = Context(0, index, node, RecordDict(), run)  # type: ignore[arg-type]

    def answer(self, message: Message) -> Message:
        """Answer as a site does, whatever it is asked."""
        kind = message.metadata.message_type
        if kind == "query.secagg":
            return answer_protocol(message, self._context)
        if kind == "query.buffer":
            return answer_buffer(message, self._context)
        return secagg_mod(message, self._context, self._in_the_clear)

    def _in_the_clear(self, message: Message, _: Context) -> Message:
        reply = super().answer(message)
        reply.content["site"] = ConfigRecord({"name": self.name, OUTPUTS: CLASSES})
        return reply


def masked(sites: list[DigitSite], experiment: Experiment) -> list[DigitSite]:
    """Return the sites as they are in a secure run; their keys lie in its output folder."""
    assert Path(experiment.output_dir).is_dir()
    return [MaskedSite(site, experiment) for site in sites]
