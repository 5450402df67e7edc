"""Buffered rounds give what asynchronous ones give, and nothing of a single site."""

import json

import numpy as np
import pytest

from primia_flwr.errors import DataError, FederationError
from primia_flwr.runs.secure_sums import read_sums
from strategies.aggregators.buffered.aggregator import BufferedAggregator

FREE = {"allow_other_survivors": True, "mixed_rounds": True}
TAKES = {"berlin": 10, "london": 12, "munich": 35, "oslo": 10, "paris": 58, "rome": 14}
FIRST, SECOND = {"berlin", "london", "munich"}, {"oslo", "paris", "rome"}
# half a fixed-point step of 32 / ((2^31 - 1) // 6) for each of 3 sites, times 100 / 60
BOUND = 1.5 * 32 / ((2**31 - 1) // 6) * 100 / 60


def trained(run):
    """The sites' sums of updates as the coordinator wrote them down: the sites, by round."""
    rows = [row for row in read_sums(run.folder) if row.kind == "train" and row.good]
    return {row.round: set(row.survivors) for row in rows}


@pytest.mark.parametrize(
    ("rule", "mixing"),
    [("fedavg", 0.7), pytest.param("fedadam", 1.0, marks=pytest.mark.slow)],
)
def test_with_equal_arrivals_it_is_the_asynchronous_run_bit_for_bit(
    federation, clock, rule, mixing
):
    found = []
    for name, more in (("buffered", FREE), ("asynchronous", {})):
        clock.seconds = 0.0
        run = federation(TAKES, name=name, rule=rule, rounds=9, mixing=mixing, folder=name, **more)
        state = run.loop()
        ages = {number: run.rows(number) for number in range(1, 10)}
        found.append(({n: a.tobytes() for n, a in state.model.items()}, ages))
    assert found[0] == found[1]
    taken = [age for rows in found[0][1].values() for status, age in rows.values()]
    assert {age for age in taken if age} == {1, 3, 5}, "some updates were stale"


def test_by_default_whole_batches_of_one_model_are_added_up(federation, clock):
    run = federation({"paris": 35.0, "oslo": 5.0, **dict.fromkeys(FIRST, 10.0)}, rounds=4)
    state = run.loop()
    assert type(run.aggregator) is BufferedAggregator
    assert trained(run) == {1: FIRST, 2: FIRST, 3: FIRST, 4: SECOND}
    assert run.rows(4) == {
        **dict.fromkeys(FIRST, ("busy", None)), **dict.fromkeys(SECOND, ("ok", 3))
    }  # fmt: skip
    targets = {name: 1.3 * at + 0.1 for at, name in enumerate(run.sites)}
    weights = {name: 10 * (at + 1) for at, name in enumerate(run.sites)}

    def mean(sites):
        return sum(weights[s] * targets[s] for s in sites) / sum(weights[s] for s in sites)

    w = mean(FIRST) * (1 - 0.5**3)  # three times half the way to it
    w += mean(SECOND) / 2 * 0.5  # from 0 half the way, three rounds old, so a half of it
    np.testing.assert_allclose(state.model["w"], w, atol=4 * BOUND, rtol=1e-6)
    assert state.validated == 4


def test_nothing_of_an_update_leaves_before_the_sum(federation):
    run = federation(rounds=2)
    for site in run.sites.values():
        answer, site.replies = site.answer, []

        def heard(message, site=site, answer=answer):
            site.replies.append((message.metadata.message_type, answer(message)))
            return site.replies[-1][1]

        site.answer = heard
    run.loop()
    for name, site in run.sites.items():
        ready = [reply for kind, reply in site.replies if kind == "train"]
        assert ready
        assert [dict(reply.content["site"]) for reply in ready] == [{"name": name}] * len(ready)
        assert {tuple(reply.content) for reply in ready} == {("site",)}
        given = [reply for kind, reply in site.replies if kind == "query.buffer"]
        assert {tuple(reply.content) for reply in given} == {("secagg", "site", "masked")}


@pytest.mark.slow
def test_what_a_site_holds_is_gone_at_the_end(federation):
    run = federation(rounds=2)
    run.loop()
    assert not list(run.folder.glob("sites/*/run-*/held.safetensors"))
    given = json.loads(next(run.folder.glob("sites/berlin/run-*/given.json")).read_text())
    assert [one["survivors"] for one in given["bound"].values()] == [sorted(FIRST)]


@pytest.mark.slow
def test_who_waits_for_a_site_that_was_given_up_is_sent_the_newest_model(federation):
    run = federation(dict.fromkeys(SECOND, 400.0), rounds=6)
    run.sites["munich"].lost = {("train", 1)}  # after 1,000 s it is sent the fourth model
    run.loop()
    assert trained(run) == {1: SECOND, 2: SECOND, 3: SECOND, 4: FIRST, 5: FIRST, 6: FIRST}
    assert [run.sites[name].plain.rounds[:2] for name in sorted(FIRST)] == [[1, 4]] * 3


@pytest.mark.slow
def test_a_site_that_declines_says_so_in_the_sum_only(federation):
    run = federation(rounds=3)
    plain = run.sites["london"].plain
    plain.target = 100.0  # half the way is beyond clip=32
    with pytest.raises(Exception, match="1 of 6 sites declined"):
        run.loop()
    assert run.rows(1) == {}


@pytest.mark.slow
def test_one_site_that_dies_costs_its_batch_only(federation):
    run = federation({name: 20.0 for name in SECOND}, rounds=3)
    run.sites["munich"].lost = {("train", n) for n in range(1, 9)}
    run.loop()
    assert trained(run)[1] == SECOND
    assert run.rows(1)["munich"][0] == "busy"


def test_a_site_that_is_lost_in_the_sum_is_asked_again(federation):
    """Munich does not answer for the buffer; the same updates are asked for again."""
    run = federation(count=3, rounds=2)
    run.sites["munich"].lost = {("buffer", 1)}
    state = run.loop()
    assert trained(run) == {1: FIRST, 2: FIRST}
    assert [site.plain.rounds for site in run.sites.values()] == [[1, 2]] * 3, "trained once"
    other = federation(count=3, rounds=2, folder="undisturbed").loop()
    assert state.model["w"].tobytes() == other.model["w"].tobytes()


@pytest.mark.slow
def test_others_make_a_sum_without_a_site_that_is_lost(federation):
    takes = {"oslo": 30.0, "paris": 31.0, "rome": 32.0}
    run = federation(takes, rounds=3, **FREE)
    run.sites["berlin"].lost = {("keys", 2)}  # the first was that of the statistics
    run.loop()
    assert trained(run)[1] == {"london", "munich", "oslo"}


@pytest.mark.slow
def test_a_share_that_is_lost_gives_no_second_sum(federation):
    """Two of three have opened the sum, the third is not heard: the same sum is asked again."""
    run = federation(count=3, rounds=2)
    run.sites["munich"].lost = {("unmask", 2)}
    run.loop()
    assert trained(run) == {1: FIRST, 2: FIRST}
    journals = run.folder.glob("sites/*/answered.jsonl")
    lists = {
        tuple(json.loads(x)["survivors"]) for j in journals for x in j.read_text().splitlines()
    }
    assert lists == {tuple(sorted(FIRST))}


@pytest.mark.slow
def test_a_site_that_never_answers_ends_the_run_with_one_sentence(federation):
    run = federation(count=3, rounds=2)
    run.sites["munich"].lost = {("buffer", n) for n in range(1, 20)}
    with pytest.raises(FederationError, match=r"round 1: .* in each of 3 attempts"):
        run.loop()


@pytest.mark.slow
def test_after_a_crash_of_the_coordinator_it_goes_on(federation):
    run = federation({"paris": 35.0}, rounds=4)

    def dies(content, message):
        raise KeyboardInterrupt

    run.sites["berlin"].plain.tricks["train", 3] = dies
    with pytest.raises(KeyboardInterrupt):
        run.loop()
    run.sites["berlin"].plain.tricks.clear()
    state = run.loop(resume=True)
    assert state.round == 4
    assert all(sites in (FIRST, SECOND, FIRST | SECOND) for sites in trained(run).values())


@pytest.mark.slow
def test_a_site_that_fails_to_train_is_left_out_of_sums(federation):
    run = federation({name: 20.0 for name in SECOND}, rounds=2, **FREE)

    def fails(content, message):
        raise DataError("no image")

    run.sites["london"].plain.tricks |= {("train", n): fails for n in range(1, 5)}
    run.loop()
    assert run.rows(1)["london"][0] == "failed"
    assert all("london" not in sites for sites in trained(run).values())
