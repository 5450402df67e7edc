"""Sums over updates that wait at their sites, asked for by a coordinator that lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from primia_flwr.errors import ProtocolError
from primia_flwr.messages import keys
from primia_flwr.messages import secure as wire
from primia_flwr.messages.buffered import QUERY, Buffer, Waiting
from primia_flwr.secagg.protocol.wire import MaskRequest, decode, encode
from primia_flwr.tasks.classification import TASK
from strategies.aggregators.secure.plausibility import check_plausible
from tests.security.lab import (
    SITES,
    Lab,
    Refused,
    content_of,
    fresh_model,
    last_bit_changed,
    size_of,
)

MUNICH, PARIS, LONDON, OSLO = SITES
THREE = (MUNICH, PARIS, LONDON)
FREE = ("aggregation=buffered", "aggregation.allow_other_survivors=true")
MIXED = (*FREE, "aggregation.mixed_rounds=true")
ANY_LIST = {"allow_other_survivors": "true"}
ANY = {**ANY_LIST, "allow_mixed_rounds": "true"}


class Scene:
    """One federation of four, what its sites were told, and instances that rise by themselves."""

    def __init__(self, lab: Any, policy: dict[str, str], *words: str) -> None:
        self.lab: Lab = lab(sites=list(SITES), policy=policy)
        self.experiment = self.lab.experiment(*words)
        self.model = fresh_model(self.experiment)
        self.layout = wire.report_layout(self.experiment, size_of(self.model), 2)
        self.number = 0
        self.held: dict[str, Waiting] = {}

    def train(self, *sites: str, server_round: int = 1, model: Any = None) -> None:
        """Have sites train; nothing but their names comes back."""
        content = content_of(self.model if model is None else model, server_round)
        base = wire.model_digest(content.array_records[keys.ARRAYS])
        terms = wire.terms_of(self.experiment, flower_run=1, bundle="")
        told = wire.transcript_hash(base, content, self.layout, "train", terms=terms).hex()
        for site in sites:
            reply = self.lab.send(site, "train", content, self.experiment)
            assert isinstance(reply, RecordDict), reply
            assert dict(reply) == {keys.SITE: ConfigRecord({"name": site})}
            self.held[site] = Waiting(server_round, told)

    def buffer(self, *sites: str, server_round: int = 1) -> Buffer:
        power = self.experiment.aggregation.staleness_power
        return Buffer(server_round, {site: self.held[site] for site in sites}, power)

    def give(self, buffer: Buffer, told: dict[str, RecordDict] | None = None) -> Any:
        """Ask the sites of a buffer for their masked updates, telling some what `told` says."""
        self.number += 1
        contents = {site: buffer.content() for site in buffer.sites} | (told or {})
        experiments = dict.fromkeys(buffer.sites, self.experiment)
        return self.lab.vectors(
            self.number, experiments, QUERY, contents, self.layout, base=buffer.digest
        )

    def open(self, server: Any, sites: Any) -> Any:
        return self.lab.unmask(server, dict.fromkeys(sites, self.experiment))

    def sum(self, buffer: Buffer, told: dict[str, RecordDict] | None = None) -> Any:
        """Return the sums of the numbers, or the first refusal."""
        server, answers = self.give(buffer, told)
        for answer in answers.values():
            if isinstance(answer, Refused):
                return answer
        totals = self.open(server, buffer.sites)
        if isinstance(totals, Refused):
            return totals
        sums = self.layout.numbers_of(totals)
        check_plausible(self.layout, totals, sums, len(buffer.parts), task=TASK)
        return totals

    def refuses(self, found: Any, because: str) -> None:
        assert isinstance(found, Refused), "answered"
        assert because in self.lab.log()


def changed(content: RecordDict, **values: Any) -> RecordDict:
    config = dict(content.config_records[keys.CONFIG])
    return RecordDict({keys.CONFIG: ConfigRecord({**config, **values})})


def own(scene: Scene, site: str, server_round: int = 1, model: Any = None) -> Any:
    """The update that a site would send in the clear: the ground truth."""
    model = scene.model if model is None else model
    content = content_of(model, server_round)
    reply = scene.lab.own(site, "train", content, scene.experiment)
    return wire.difference(wire.numpy_arrays(reply.array_records[keys.ARRAYS]), model)


def test_the_sum_is_the_discounted_mean_of_what_the_sites_hold(lab):
    scene = Scene(lab, ANY, *MIXED)
    scene.train(MUNICH)
    scene.train(PARIS, LONDON, server_round=4)
    totals = scene.sum(scene.buffer(*THREE, server_round=4))
    mean = scene.layout.mean_of(totals, scene.layout.numbers_of(totals)["weight"][0])
    parts = [own(scene, MUNICH, 1) * 0.5, own(scene, PARIS, 4), own(scene, LONDON, 4)]
    bound = scene.layout.error_bound(3, 3) * 1.001
    np.testing.assert_allclose(mean, np.mean(parts, axis=0), atol=bound)


def test_the_sites_own_policy_decides_how_many_are_in_a_buffer(lab):
    four = {**ANY_LIST, "min_survivors": "4", "min_sites": "3"}
    scene = Scene(lab, four, *FREE, "aggregation.min_survivors=4", "aggregation.buffer=4",
                  "federation.min_sites=4")  # fmt: skip
    scene.train(*SITES)
    told = {MUNICH: scene.buffer(*THREE).content()}
    found = scene.sum(scene.buffer(*SITES), told)
    scene.refuses(found, "a buffer with 3 updates; expected at least 4")
    assert not isinstance(scene.sum(scene.buffer(*SITES)), Refused)


def test_the_gate_refuses_a_run_whose_buffers_are_below_the_policy(lab):
    scene = Scene(lab, {**ANY_LIST, "min_survivors": "4"}, *FREE)
    content = content_of(scene.model, 1)
    found = scene.lab.send(MUNICH, "train", content, scene.experiment)
    assert isinstance(found, Refused)
    assert found.before
    assert "min_survivors" in found.reason


@pytest.mark.parametrize("key", ["allow_other_survivors", "mixed_rounds"])
def test_the_gate_refuses_what_the_policy_does_not_allow(lab, key):
    scene = Scene(
        lab, {}, "aggregation=buffered", "aggregation.buffer=4", f"aggregation.{key}=true"
    )
    found = scene.lab.send(MUNICH, "train", content_of(scene.model, 1), scene.experiment)
    assert isinstance(found, Refused)
    assert f"aggregation.{key}=True; expected false" in found.reason


def test_an_update_is_not_given_into_two_sums(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*SITES)
    assert not isinstance(scene.sum(scene.buffer(*THREE)), Refused)
    again = scene.buffer(MUNICH, PARIS, OSLO)
    scene.refuses(scene.sum(again), "after it was given into another")
    # nor is what training on the same model again would give
    changed = {name: array + np.float32(0.01) for name, array in scene.model.items()}
    scene.train(MUNICH, PARIS, server_round=2, model=changed)
    scene.train(MUNICH, PARIS, server_round=3)
    scene.refuses(
        scene.sum(scene.buffer(MUNICH, PARIS, OSLO, server_round=3)), "of another model than"
    )
    scene.train(OSLO, server_round=3)
    scene.refuses(
        scene.sum(scene.buffer(MUNICH, PARIS, OSLO, server_round=3)), "after it was given"
    )


@pytest.mark.slow
def test_an_update_is_not_opened_in_two_sums_that_were_masked_before(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*SITES)
    first, second = scene.buffer(*THREE), scene.buffer(MUNICH, PARIS, OSLO)
    one, _ = scene.give(first)
    other, answers = scene.give(second)  # of three all have to help, so nothing is open yet
    assert not any(isinstance(answer, Refused) for answer in answers.values())
    assert not isinstance(scene.open(one, first.sites), Refused)
    scene.refuses(scene.open(other, second.sites), "after it was given into another")


def test_an_update_that_others_can_open_counts_as_given(lab):
    """Munich masks; the three others open the sum; munich's own shares were never asked for."""
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*SITES)
    server, _ = scene.give(scene.buffer(*SITES))
    assert server.threshold == 3
    scene.refuses(scene.sum(scene.buffer(*THREE)), "after it was given into another")


def test_a_wrong_weight_is_refused_by_the_site_that_is_told_it(lab):
    scene = Scene(lab, ANY, *MIXED)
    scene.train(MUNICH)
    scene.train(PARIS, LONDON, server_round=4)
    buffer = scene.buffer(*THREE, server_round=4)
    places = {site: at for at, site in enumerate(buffer.sites)}
    for site in THREE:
        weights = [buffer.weight_of(name) for name in buffer.sites]
        weights[places[site]] *= 0.5
        told = {MUNICH: changed(buffer.content(), **{"buffer-weights": weights})}
        scene.refuses(scene.sum(buffer, told), f"for {site}; expected (1 + ")


@pytest.mark.slow
def test_sites_that_are_told_of_other_rounds_have_masks_that_do_not_cancel(lab):
    """A weight that fits its round: the site cannot know it, and the sum is noise."""
    scene = Scene(lab, ANY, *MIXED)
    scene.train(*THREE)
    buffer = scene.buffer(*THREE, server_round=1)
    other = scene.buffer(*THREE, server_round=99)
    with pytest.raises(ProtocolError, match="sites were told different things"):
        scene.sum(buffer, {MUNICH: other.content()})


def test_a_site_is_named_once(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*THREE)
    buffer = scene.buffer(*THREE)
    twice = [MUNICH, MUNICH, PARIS]
    told = {MUNICH: changed(buffer.content(), **{"buffer-sites": sorted(twice)})}
    scene.refuses(scene.sum(buffer, told), "expected each once, by name")


@pytest.mark.slow
def test_masks_are_with_the_sites_of_the_buffer(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*SITES)
    told = {MUNICH: scene.buffer(MUNICH, PARIS, OSLO).content()}
    scene.refuses(scene.sum(scene.buffer(*THREE), told), "expected the same sites")


@pytest.mark.slow
def test_two_models_of_one_round_are_not_added_up(lab):
    scene = Scene(lab, ANY, *MIXED)
    scene.train(MUNICH)
    other = {name: array * np.float32(0) for name, array in scene.model.items()}
    scene.train(PARIS, LONDON, model=other)
    scene.refuses(scene.sum(scene.buffer(*THREE)), "two models of one round")
    # each is told that all have its own: then the masks are different ones
    parts = {site: scene.held[MUNICH] for site in THREE}
    buffer = Buffer(1, parts, scene.experiment.aggregation.staleness_power)
    alike = {site: scene.held[PARIS] for site in THREE}
    told = dict.fromkeys((PARIS, LONDON), Buffer(1, alike, buffer.power).content())
    with pytest.raises(ProtocolError, match="sites were told different things"):
        scene.sum(buffer, told)


def test_models_that_a_site_does_not_know_do_not_hide_it(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(MUNICH)
    dead = {name: array * np.float32(0) for name, array in scene.model.items()}
    scene.train(PARIS, LONDON, server_round=2, model=dead)
    scene.refuses(
        scene.sum(scene.buffer(*THREE, server_round=2)), "of another model than munich was sent"
    )


def test_enough_of_its_own_model_beside_another_do_not_hide_a_site(lab):
    """Two sums of four sites with another one late in each differ by these two alone."""
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(OSLO)
    scene.train(*THREE, server_round=2, model=last_bit_changed(scene.model))
    found = scene.sum(scene.buffer(*SITES, server_round=2))
    scene.refuses(found, "updates of oslo of another model than")


@pytest.mark.slow
def test_with_mixed_rounds_a_coordinator_that_lies_can_see_one_update(lab):
    """What `allow_mixed_rounds` gives up, as docs/threat-model.md says.

    Three sums over the same sites and nearly the same model; in each another update is fresh.
    """
    scene = Scene(lab, ANY, *MIXED, "training.warmup=0", "federation.rounds=12")
    model, sums = scene.model, []
    for last, fresh in ((4, MUNICH), (8, PARIS), (12, LONDON)):
        others = [site for site in THREE if site != fresh]
        for number, sites in ((last - 3, others), (last, [fresh])):
            model = last_bit_changed(model)
            scene.train(*sites, server_round=number, model=model)
        totals = scene.sum(scene.buffer(*THREE, server_round=last))
        sums.append(scene.layout.mean_of(totals, 3) * np.float32(3))
    # of m + (p + l) / 2, p + (m + l) / 2 and l + (m + p) / 2 the first, less a quarter of all
    found, munich = 2 * (sums[0] - sum(sums) / 4), own(scene, MUNICH)
    assert np.linalg.norm(found - munich) < 0.01 * np.linalg.norm(munich)


@pytest.mark.slow
def test_what_a_site_holds_is_what_it_was_sent(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*THREE)
    scene.held |= dict.fromkeys(THREE, Waiting(1, "ab" * 32))
    scene.refuses(scene.sum(scene.buffer(*THREE)), "expected that one, and the model")


@pytest.mark.slow
def test_nothing_is_given_that_is_not_held(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*THREE)
    scene.held[OSLO] = scene.held[MUNICH]
    scene.refuses(scene.sum(scene.buffer(MUNICH, PARIS, OSLO)), "and it holds none")


def test_replies_of_another_instance(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*THREE)
    buffer = scene.buffer(*THREE)
    old, answers = scene.give(buffer)
    sealed = {site: reply for site, reply in answers.items() if isinstance(reply, RecordDict)}
    assert set(sealed) == set(THREE)
    scene.number += 1
    experiments = dict.fromkeys(THREE, scene.experiment)
    new = scene.lab.instance(scene.number, experiments)
    terms = wire.terms_of(scene.experiment, flower_run=1, bundle="")
    transcript = wire.transcript_hash(
        buffer.digest, buffer.content(), scene.layout, QUERY, terms=terms
    )
    requests = new.begin_sum(transcript)
    # another site's shares of the new instance (those of an old one: tests/secagg/protocol)
    request = requests[MUNICH]
    stale = MaskRequest(request.instance, request.members, requests[PARIS].sealed)
    parts = ConfigRecord({wire.MASK: encode(stale)})
    asked = RecordDict({**buffer.content(), wire.SECAGG: parts})
    scene.refuses(scene.lab.send(MUNICH, QUERY, asked, scene.experiment), "shares sealed by")
    # masked vectors of the old instance, taken for those of the new one
    for site in THREE:
        vectors = wire.unpack_vectors(sealed[site].array_records[wire.MASKED], scene.layout)
        new.add_vectors(site, vectors)
    found = scene.open(new, THREE)
    assert isinstance(found, Refused), "the sites have not masked in the new one"
    assert decode(encode(request), MaskRequest) == request
    assert old.number != new.number


@pytest.mark.slow
def test_any_other_run_refuses_the_message(lab):
    scene = Scene(lab, {}, "aggregation=secure")
    found = scene.lab.send(MUNICH, QUERY, RecordDict({}), scene.experiment)
    assert isinstance(found, Refused)
    scene.refuses(found, "query.buffer in a run that answers")


@pytest.mark.slow
def test_a_buffer_of_the_past_is_refused(lab):
    scene = Scene(lab, ANY_LIST, *FREE)
    scene.train(*THREE, server_round=5)
    assert not isinstance(scene.sum(scene.buffer(*THREE, server_round=6)), Refused)
    scene.train(*THREE, server_round=7)
    buffer = scene.buffer(*THREE, server_round=7)
    told = {MUNICH: changed(buffer.content(), **{keys.ROUND: 5})}
    scene.refuses(scene.sum(buffer, told), "an update of round 7 in round 5")
    early = scene.buffer(*THREE, server_round=5)
    scene.held |= dict.fromkeys(THREE, Waiting(5, early.parts[MUNICH].told))
    scene.refuses(scene.sum(scene.buffer(*THREE, server_round=5)), "expected that one")
