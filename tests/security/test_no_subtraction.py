"""Sums over lists of sites that differ by few: the difference would be those few's."""

import pytest
from flwr.app import ConfigRecord, RecordDict

from primia_flwr.messages import keys
from primia_flwr.messages import secure as wire
from primia_flwr.tasks.classification import TASK
from strategies.aggregators.secure.plausibility import check_plausible
from tests.security.lab import (
    SITES,
    Refused,
    content_of,
    fresh_model,
    last_bit_changed,
    size_of,
)

THREE = SITES[:3]
EMPTY = RecordDict({keys.CONFIG: ConfigRecord({})})


class Scene:
    """One federation of four; numbers of instances rise by themselves."""

    def __init__(self, lab, **settings):
        self.lab = lab(sites=list(SITES), **settings)
        self.experiment = self.lab.experiment()
        self.model = fresh_model(self.experiment)
        self.number = 0

    def ask(self, among, kind, model=None, server_round=1, *, run=None, sites=None):
        """Return the sums over `among`, or the first refusal."""
        self.number += 1
        experiment = self.experiment
        if run or sites:
            run = run or experiment.aggregation.run
            experiment = self.lab.experiment(sites=sites, run=run)
        experiments = dict.fromkeys(among, experiment)
        if kind == "query.statistics":
            layout = wire.statistics_layout(experiment, 2)
            found = self.lab.sum(self.number, experiments, kind, EMPTY, layout)
        else:
            entries = size_of(self.model) if kind == "train" else 0
            layout = wire.report_layout(experiment, entries, 2)
            content = content_of(self.model if model is None else model, server_round)
            found = self.lab.sum(self.number, experiments, kind, content, layout)
        if isinstance(found, Refused):
            return found
        check_plausible(layout, found, layout.numbers_of(found), len(among), task=TASK)
        return layout.numbers_of(found)

    def refuses(self, *how, **more):
        """Assert that it is refused, and that the hospital's own log says `because`."""
        because = more.pop("because")
        found = self.ask(*how, **more)
        assert isinstance(found, Refused), "answered"
        assert because in self.lab.log()


FOLLOW = "the sum over "  # begins both sentences of the journal's refusals
OTHER_RUN = "f" * 32


@pytest.mark.parametrize(
    ("kind", "later"), [("evaluate", 1), ("train", 1), ("evaluate", 2), ("train", 7)]
)
def test_a_site_left_out_of_the_next_round_of_a_model_with_one_bit_changed(lab, kind, later):
    scene = Scene(lab)
    assert scene.ask(SITES, kind, server_round=1)
    changed = last_bit_changed(scene.model)
    because = FOLLOW if later > 1 else "is asked for, after round 1 was answered"
    scene.refuses(THREE, kind, changed, later, because=because)


@pytest.mark.parametrize("kind", ["evaluate", "train"])
def test_the_same_list_goes_on(lab, kind):
    scene = Scene(lab)
    assert scene.ask(SITES, kind, server_round=1)
    assert scene.ask(SITES, kind, last_bit_changed(scene.model), 2)


def test_a_round_may_be_repeated_with_the_same_model_and_sites(lab):
    scene = Scene(lab)
    first = scene.ask(SITES, "train", server_round=3)
    again = scene.ask(SITES, "train", server_round=3)
    assert first["weight"] == again["weight"] == [4]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("train", "evaluate"),
        ("train", "query.statistics"),
        ("evaluate", "train"),
        ("query.statistics", "evaluate"),
        ("query.statistics", "query.statistics"),
    ],
)
def test_another_kind_of_message_is_no_way_around(lab, first, second):
    scene = Scene(lab)
    assert scene.ask(SITES, first)
    scene.refuses(THREE, second, last_bit_changed(scene.model), 2, because=FOLLOW)


@pytest.mark.parametrize("kind", ["train", "evaluate", "query.statistics"])
def test_another_run_is_no_way_around(lab, kind):
    """(c) of the review: a run whose federation.sites is a part of the roster."""
    scene = Scene(lab)
    assert scene.ask(SITES, kind)
    scene.refuses(
        THREE, kind, last_bit_changed(scene.model), 1, run=OTHER_RUN, sites=THREE, because=FOLLOW
    )


@pytest.mark.parametrize("kind", ["train", "query.statistics"])
def test_a_site_that_comes_in_later_would_be_shown_as_well(lab, kind):
    scene = Scene(lab)
    assert scene.ask(THREE, kind)
    scene.refuses(SITES, kind, last_bit_changed(scene.model), 2, because=FOLLOW)


def test_a_round_that_is_older_than_the_newest_is_refused(lab):
    scene = Scene(lab)
    assert scene.ask(SITES, "train", server_round=5)
    scene.refuses(SITES, "train", scene.model, 4, because="after round 5 was answered")


def test_one_round_is_one_model(lab):
    scene = Scene(lab)
    assert scene.ask(SITES, "evaluate", server_round=2)
    scene.refuses(
        SITES, "evaluate", last_bit_changed(scene.model), 2, because="of the same model again"
    )


@pytest.mark.parametrize("number", [None, -1, 1.0, True, "1", [1]])
def test_a_round_without_a_whole_number_is_refused(lab, number):
    scene = Scene(lab)
    experiments = dict.fromkeys(SITES, scene.experiment)
    content = content_of(scene.model, 1)
    config = dict(content.config_records[keys.CONFIG])
    config = {k: v for k, v in config.items() if k != keys.ROUND}
    config |= {} if number is None else {keys.ROUND: number}
    content = RecordDict({**content, keys.CONFIG: ConfigRecord(config)})
    layout = wire.report_layout(scene.experiment, size_of(scene.model), 2)
    _, answers = scene.lab.vectors(1, experiments, "train", content, layout)
    assert all(isinstance(answer, Refused) for answer in answers.values())


@pytest.mark.parametrize(
    "other",
    [
        ("privacy=dp_sgd", "privacy.epsilon=3"),  # whose sums may be over any sites
        ("aggregation.clip=31",),
        ("seed=2",),
    ],
)
def test_shares_are_asked_for_under_the_terms_of_the_vectors(lab, other):
    """Under other terms another rule about lists might hold."""
    scene = Scene(lab)
    assert scene.ask(SITES, "evaluate", server_round=1)
    experiments = dict.fromkeys(THREE, scene.experiment)
    content = content_of(last_bit_changed(scene.model), 2)
    layout = wire.report_layout(scene.experiment, 0, 2)
    server, _ = scene.lab.vectors(scene.number + 1, experiments, "evaluate", content, layout)
    another = dict.fromkeys(THREE, scene.lab.experiment(*other))
    assert isinstance(scene.lab.unmask(server, another), Refused)
    assert "refuses a step under other terms of the run" in scene.lab.log()
    assert isinstance(scene.lab.unmask(server, experiments), Refused), "the instance is spent"


def private_lists(lab, policy):
    """Ask a private run for all sites, and then for three of a model with one bit changed."""
    scene = Scene(lab, policy={"patient_pattern": "'^(?P<patient>.+[.])'", **policy})
    scene.experiment = scene.lab.experiment(
        *("privacy=dp_sgd", "privacy.noise_multiplier=1", "privacy.epsilon=0"),
        *("privacy.expected_batch=4", "privacy.steps=1", "data.channels=1"),
    )
    assert scene.ask(SITES, "train", server_round=1)["weight"] == [4]
    return scene.ask(THREE, "train", last_bit_changed(scene.model), 2)


def test_noise_without_a_ceiling_is_no_way_around(lab):
    """A coordinator that claims dp_sgd chooses how little noise that is."""
    assert isinstance(private_lists(lab, {}), Refused)


def test_noise_under_the_sites_own_ceiling_pays_for_differences(lab):
    assert private_lists(lab, {"max_epsilon": "1000"})["weight"] == [3]


def test_a_site_whose_policy_allows_it_answers_any_list(lab):
    scene = Scene(lab, policy={"allow_other_survivors": "true"})
    assert scene.ask(SITES, "evaluate", server_round=1)
    assert scene.ask(THREE, "evaluate", last_bit_changed(scene.model), 2)["incoming-examples"]


def test_the_coordinators_wish_does_not_allow_it(lab):
    scene = Scene(lab)
    scene.experiment = scene.lab.experiment("aggregation.allow_other_survivors=true")
    found = scene.lab.send("munich", "train", EMPTY, scene.experiment)
    assert found.before
    assert "aggregation.allow_other_survivors=True" in found.reason


def test_lists_of_before_a_day_that_the_site_names_do_not_count(lab):
    scene = Scene(lab)
    assert scene.ask(SITES, "evaluate", server_round=1)
    for site in SITES:
        scene.lab.set_policy(site, {"member_lists_since": "'9999-01-01'"})
    assert not isinstance(scene.ask(THREE, "evaluate", last_bit_changed(scene.model), 2), Refused)


def test_statistics_of_before_that_day_do_not_count_either(lab):
    scene = Scene(lab)
    assert scene.ask(SITES, "query.statistics")
    for site in SITES:
        scene.lab.set_policy(site, {"member_lists_since": "'9999-01-01'"})
    assert not isinstance(scene.ask(THREE, "query.statistics"), Refused)


def test_a_journal_that_was_deleted_is_missed(lab):
    scene = Scene(lab)
    assert scene.ask(SITES, "evaluate", server_round=1)
    for site in SITES:
        (scene.lab.policy_file(site).parent / "state/secagg/answered.jsonl").unlink()
    with pytest.raises(AssertionError, match="SiteFailure"):  # no keys for another instance
        scene.ask(SITES, "evaluate", scene.model, 2)
    assert "has 0 lines of 2 that were written" in scene.lab.log()
