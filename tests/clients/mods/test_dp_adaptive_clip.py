"""A clip that moves at a site: charged as a fixed one, kept for the next round, refused in time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, RecordDict

from clients.mods import dp_update as private
from clients.site.adaptive_clip import adaptive_clip_norm
from primia_flwr.errors import ConfigError
from primia_flwr.messages import keys
from tests.clients.answering import answer_statistics, answer_train
from tests.clients.handlers.test_answers import asked, simulated, train_message
from tests.clients.mods.test_dp import charges, kinds, ledger_of, text_of

ADAPTIVE = ("privacy.clip_quantile=0.5", "privacy.clip_count_noise=2")
# Next to no noise on the count is wanted where a move is looked at: so less on the gradients.
QUIET = (
    "privacy.clip_quantile=0.5",
    "privacy.clip_count_noise=0.3",
    "privacy.noise_multiplier=0.3",
    "privacy.epsilon=0",
    "privacy.expected_batch=1000",  # all of the site's
    "privacy.steps=1",
)


def kept(text: str, number: int) -> float | None:
    return adaptive_clip_norm(private.open_site(simulated(text)), number)


def test_a_site_is_charged_what_a_fixed_clip_costs(tmp_path: Path) -> None:
    found = []
    for name, more in (("fixed", ()), ("moving", ADAPTIVE)):
        text = text_of(tmp_path / name, *more)
        answer_train(train_message(text), simulated(text))
        with ledger_of(tmp_path / name) as ledger:
            (charge,), (planned,) = ledger.charges(), ledger.account.runs.plans
            found.append((charge.event, charge.epsilon, planned.plan))
    assert found[0] == found[1]


def test_each_round_begins_with_the_clip_that_the_one_before_left(tmp_path: Path) -> None:
    text = text_of(tmp_path, *QUIET, "privacy.clip_norm=1e-4")
    assert kept(text, 1) is None
    answer_train(train_message(text), simulated(text))
    first = kept(text, 1)
    # nobody is below: exp(0.2 / 2), with some 20 units and noise of 0.3 on their count
    assert first == pytest.approx(1e-4 * math.exp(0.1), rel=0.03)
    answer_train(train_message(text, 2), simulated(text))
    assert kept(text, 2) == pytest.approx(first * math.exp(0.1), rel=0.03)
    # the site was not there in round 3: round 4 goes on from round 2
    assert kept(text, 3) == kept(text, 2)


def test_a_round_that_is_repeated_begins_where_it_began(tmp_path: Path) -> None:
    text = text_of(tmp_path, *QUIET, "privacy.clip_norm=1e-4")
    reply = answer_train(train_message(text), simulated(text))
    answer_train(train_message(text, 2), simulated(text))
    before = kept(text, 2)
    answer_train(train_message(text, 2), simulated(text))  # the same: sent again, nothing moves
    assert kept(text, 2) == before
    other = train_message(text, 2)
    other.content[keys.ARRAYS] = reply.content[keys.ARRAYS]
    answer_train(other, simulated(text))  # of another model: charged anew, from round 1's clip
    assert charges(tmp_path) == [1, 2, 2]
    assert kept(text, 2) == pytest.approx(1e-4 * math.exp(0.2), rel=0.06)


def test_a_fixed_clip_leaves_no_file(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    answer_train(train_message(text), simulated(text))
    assert not list(tmp_path.rglob("clip-norm-*"))
    assert kept(text, 1) is None


def test_what_leaves_the_site_has_no_clip(tmp_path: Path) -> None:
    replies = []
    for name, more in (("fixed", ()), ("moving", ADAPTIVE)):
        text = text_of(tmp_path / name, *more)
        replies.append(answer_train(train_message(text), simulated(text)).content)
    assert [set(content) for content in replies] == [set(replies[0])] * 2
    assert all(set(replies[0][name]) == set(replies[1][name]) for name in replies[0])


def test_counts_that_cost_more_than_the_steps_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    # a batch of 8: noise of 0.4 on the count, so that steps need a noise multiplier below 0.8
    text = text_of(tmp_path, "privacy.clip_quantile=0.5", "privacy.epsilon=2")
    with pytest.raises(ConfigError, match=r"privacy\.clip_count_noise=0\.4 with steps of noise"):
        answer_train(train_message(text), simulated(text))
    assert kinds(tmp_path) == ["opened", "data"]


def test_they_are_refused_before_noisy_statistics_leave(tmp_path: Path) -> None:
    noisy = ("privacy.statistics_noise=6", "data.normalisation.kind=federated")
    text = text_of(tmp_path, "privacy.clip_quantile=0.5", "privacy.epsilon=2", *noisy)
    ask = asked("query.statistics", RecordDict({keys.CONFIG: ConfigRecord()}))
    with pytest.raises(ConfigError, match=r"privacy\.clip_count_noise=0\.4"):
        answer_statistics(ask, simulated(text))
    assert kinds(tmp_path) == ["opened", "data"]
