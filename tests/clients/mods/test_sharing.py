"""A part of an update leaves a site; the rest is kept, and comes with the next one, once."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from clients.mods.sharing import sharing_mod
from clients.site.opened import Budget, OpenSite, SiteContext
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import sharing
from primia_flwr.messages.keys import ARRAYS, CONFIG, ROUND

# a vector in the order of the names: four parameters, then two statistics of batch norm
FIXED, LEARNED = "features.1.running_var", "features.0.weight"
CHANGE = np.array([1, 2, 3, 4, 5, 6], np.float32)


class Site:
    """A site named b whose training adds `change` to every model that comes."""

    def __init__(self, folder: Path, by: str = "random", share: float = 0.5) -> None:
        self.experiment = Experiment(
            federation=FederationConfig(sites=["a", "b", "c"]),
            aggregation=AggregationConfig(share=share, share_by=by, run="0" * 32),
            model=ModelConfig(name="simpleconv", norm="batch"),
        )
        self.change, self.trained, self.done = CHANGE, 0, False
        data = SimpleNamespace(train=SimpleNamespace(classes=("x", "y")))
        budget = Budget(folder, "patient", None, 1e-5)
        opened = OpenSite(
            "b", self.experiment, data, torch.device("cpu"), folder, True, budget  # type: ignore[arg-type]
        )  # fmt: skip
        text = {"config": to_yaml(self.experiment)}
        context = Context(1, 1, {"partition-id": 1}, RecordDict(), run_config=text)
        self.context = SiteContext(context, opened)

    def ask(self, number: int, since: int, **told: str) -> dict[str, np.ndarray]:
        """Return what leaves of round `number`, where round `since` was the last that counted."""
        rounds = {sharing.SINCE: [9, since, 0][: len(self.experiment.federation.sites)]}
        rounds[sharing.SINCE][0] = number - 1
        config = ConfigRecord({ROUND: number, **rounds, **told})
        model = pack(np.zeros(6, np.float32))
        message = Message(RecordDict({ARRAYS: model, CONFIG: config}), 1, "train")
        reply = sharing_mod(message, self.context, self._train)
        return {n: a.numpy() for n, a in reply.content.array_records[ARRAYS].items()}

    def _train(self, message: Message, context: Context) -> Message:
        self.trained += 1
        assert isinstance(context, SiteContext)
        begun, rest = np.zeros(6, np.float32), context.site.unsent
        begun[:4] += rest[LEARNED].numpy()
        assert set(rest) == {LEARNED}, "statistics begin as they came"
        if self.done:  # trained to its own minimum, from wherever it began
            begun[:] = 0
        return Message(RecordDict({ARRAYS: pack(begun + self.change)}), reply_to=message)

    def places(self, number: int) -> list[int]:
        return sharing.drawn_places(self.experiment, 6, number, np.empty(0, np.int64)).tolist()


def pack(values: np.ndarray) -> ArrayRecord:
    return ArrayRecord({LEARNED: Array(values[:4]), FIXED: Array(values[4:])})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(
        "primia_flwr.models.empty.statistics_arrays", lambda *_, **__: frozenset({FIXED})
    )
    return Site(tmp_path)


def test_what_is_not_sent_comes_with_the_next_update_and_statistics_do_not(site: Site) -> None:
    first = site.places(1)
    assert site.ask(1, 0)["vector"].tolist() == CHANGE[first].tolist()
    left = CHANGE.copy()
    left[first] = 0
    left[4:] = 0  # statistics are no sums of steps
    second = site.places(2)
    assert site.ask(2, 1)["vector"].tolist() == (CHANGE + left)[second].tolist()


def test_a_round_that_is_asked_for_again_sends_the_same_and_doubles_nothing(site: Site) -> None:
    site.ask(1, 0)
    once, again = site.ask(2, 1), site.ask(2, 1)
    assert once["vector"].tolist() == again["vector"].tolist()
    after = site.ask(3, 2)["vector"]
    fresh = Site(site.context.site.folder / "other")
    for number in (1, 2):
        fresh.ask(number, number - 1)
    assert after.tolist() == fresh.ask(3, 2)["vector"].tolist()


def test_numbers_that_were_sent_in_vain_do_not_change_what_was_kept(site: Site) -> None:
    """Its answer to round 2 came too late: it goes on from round 1, as if it had not been asked."""
    site.ask(1, 0)
    site.ask(2, 1)
    late = site.ask(3, 1)["vector"]
    absent = Site(site.context.site.folder / "other")
    absent.ask(1, 0)
    assert late.tolist() == absent.ask(3, 1)["vector"].tolist()


def test_over_many_rounds_all_of_every_update_arrives_or_is_kept(site: Site) -> None:
    arrived = np.zeros(6, np.float32)
    for number in range(1, 8):
        arrived[site.places(number)] += site.ask(number, number - 1)["vector"]
    kept = site.context.site.kept("unsent").load(7)["unsent"]
    assert (arrived + kept)[:4].tolist() == (7 * CHANGE)[:4].tolist()


def test_a_site_at_its_minimum_sends_how_far_that_is_however_long_it_could_not(site: Site) -> None:
    """Steps that were taken again and again would add up: with a small share that diverges."""
    site.done = True
    for number in range(1, 6):
        sent = site.ask(number, number - 1)["vector"]
        assert sent.tolist() == CHANGE[site.places(number)].tolist()


def test_of_a_training_that_diverged_nothing_is_kept(site: Site) -> None:
    site.ask(1, 0)
    before = site.context.site.kept("unsent").load(1)["unsent"].tolist()
    site.change = np.full(6, np.nan, np.float32)
    assert np.isnan(site.ask(2, 1)["vector"]).all(), "for whoever looks at it next"
    assert site.context.site.kept("unsent").load(2)["unsent"].tolist() == before


@pytest.mark.parametrize("since", [-1, 5, 7])
def test_a_message_that_cannot_be_is_refused_before_anything_is_trained(
    site: Site, since: int
) -> None:
    with pytest.raises(ProtocolError, match="a round from 0 to 4"):
        site.ask(5, since)
    assert site.trained == 0


def test_places_that_are_not_told_are_refused_before_anything_is_trained(
    site: Site, tmp_path: Path
) -> None:
    asking = Site(tmp_path / "change", by="change")
    with pytest.raises(ProtocolError, match="0 bytes; expected 1"):
        asking.ask(1, 0)
    assert asking.trained == 0
    told = sharing.told_text(np.array([3]), 6)
    sent = asking.ask(1, 0, **{sharing.PLACES: told})["vector"]
    assert len(sent) == 3
    assert 4.0 in sent, "the fourth number"


def test_its_own_choice_is_the_largest_with_what_it_kept(site: Site, tmp_path: Path) -> None:
    own = Site(tmp_path / "own", by="own", share=0.34)
    assert own.ask(1, 0)["vector"].tolist() == [5, 6], "statistics among them"
    assert own.ask(2, 1)["vector"].tolist() == [6, 8], "twice 3 and twice 4"
    assert own.experiment.num_sent(6) == 6, "a mean has all numbers"
