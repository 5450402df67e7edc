"""The sealed relay among three real sites in one process, and all that its coordinator saw."""

import re
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from clients.site.baton import Baton
from primia_flwr.config.load import config_hash, kept_hash, load_experiment
from primia_flwr.errors import FederationError, ProtocolError
from primia_flwr.messages import relay as wire
from primia_flwr.messages.held import values_of
from primia_flwr.messages.records import to_arrays
from primia_flwr.models import load_model
from primia_flwr.pipeline.first_model import first_model
from primia_flwr.runs.checkpoint import GLOBAL, load_latest
from primia_flwr.secagg.protocol.wire import KeysRequest, RelayHop, decode, encode
from strategies.aggregators.silent_sites import relay_query
from tests.strategies.aggregators.relay.app_grid import (
    content_bytes,
    experiment_in,
    run,
    sites_of,
)

SHORT = (
    "data.normalisation.kind=fixed",
    "training.sync_every_n_batches=1",
    "training.batch_size=8",
    "federation.rounds=2",
    "federation.wait_for_sites=0",
    "federation.round_timeout=1",
)
SEALED = ("aggregation.sealed=true", *SHORT)


class Crash(BaseException):
    """The coordinator's process ends."""


def recorded(grid, experiment):
    """Return a grid of real sites that keeps every byte that comes from them."""
    fake = grid(sites_of(experiment))
    fake.dump, fake.blobs = [], []
    for site in fake.sites.values():

        def heard(message, answer=site.answer):
            reply = answer(message)
            if reply is not None and reply.has_content():
                fake.dump.append(content_bytes(reply.content))
                fake.blobs += [blob for blob in [wire.sealed_bytes(reply.content)] if blob]
            return reply

        site.answer = heard
    return fake


def trained_bytes(state):
    return wire.model_bytes(state.model)


def windows(raw):
    """Every 16 bytes of the first 64 KiB of a model, from each of its float32 on."""
    return {raw[at : at + 16] for at in range(0, min(len(raw), 1 << 16) - 15, 4)}


def holds_any(told, wanted):
    """Say whether bytes hold any of the windows, wherever it begins."""
    first = np.array(sorted({int.from_bytes(w[:8], "little") for w in wanted}), np.uint64)
    for start in range(8):
        words = np.frombuffer(told, np.uint64, (len(told) - start) // 8, start)
        found = np.flatnonzero(np.isin(words, first))
        if any(told[start + 8 * at : start + 8 * at + 16] in wanted for at in found):
            return True
    return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory, grid_of):
    """A sealed run of two cycles that was never disturbed: its state, its grid, what sites kept."""
    folder, kept = tmp_path_factory.mktemp("sealed"), []
    asked = experiment_in(folder, *SEALED)
    fake = recorded(grid_of, asked)
    with pytest.MonkeyPatch.context() as patch:
        keep = Baton.keep
        patch.setattr(Baton, "keep", lambda self, held: kept.append(held) or keep(self, held))
        state = run(asked, fake, folder)
    return state, fake, kept


def test_the_same_model_as_unsealed_bit_for_bit(whole, grid_of, tmp_path):
    state, _, kept = whole
    asked = experiment_in(tmp_path, *SHORT)
    assert trained_bytes(run(asked, grid_of(sites_of(asked)), tmp_path)) == trained_bytes(state)
    assert [held.cycle for held in kept] == [1, 1, 1, 2, 2, 2]
    names = ("site-1", "site-2", "site-3")
    assert [held.members for held in kept[:3]] == [names[:1], names[:2], names]


def test_a_coordinator_that_keeps_all_it_saw_has_no_16_bytes_of_a_model_but_the_last(whole):
    _, fake, kept = whole
    told = b"".join(fake.dump)
    for held in (kept[0], kept[4]):
        wanted = windows(wire.model_bytes(held.arrays)) - windows(wire.model_bytes(kept[-1].arrays))
        assert len(wanted) > 1000
        wanted -= windows(_first(fake))
        assert not holds_any(told, wanted)
    last = wire.model_bytes(kept[-1].arrays)
    assert holds_any(told, windows(last[-4096:])), "the last model comes in the clear, at the end"
    for number in (b"incoming", b"num-examples", b"train-loss", b"epochs"):
        assert number not in told


def _first(fake):
    """The first weights, which everybody knows."""
    asked = load_experiment(fake.sites[10].text)
    return wire.model_bytes(values_of(to_arrays(first_model(asked, 3).state_dict())))


def test_a_blob_is_33_bytes_longer_than_the_model(whole):
    _, fake, kept = whole
    size = len(wire.model_bytes(kept[0].arrays))
    # Two hops in each of two cycles, and one from cycle to cycle.
    assert [len(blob) for blob in fake.blobs] == [size + 32 + 1] * 5
    assert 32 + 0.01 * size >= 32 + 1


def test_a_site_that_does_not_answer_is_skipped_and_the_model_sealed_for_the_next(
    grid_of, tmp_path
):
    one = "federation.rounds=1"
    asked = experiment_in(tmp_path / "sealed", *SEALED, one)
    fake = grid_of(sites_of(asked))
    fake.sites[11].tricks["train", 1] = "away"
    state = run(asked, fake, tmp_path / "sealed")
    # A name and a key of each; site-1 seals anew for site-3, which ends with the model.
    counts = [site.seen.count("query.relay") for site in fake.sites.values()]
    assert counts == [3, 2, 3]
    in_the_open = experiment_in(tmp_path / "open", *SHORT, one)
    other = grid_of(sites_of(in_the_open))
    other.sites[11].tricks["train", 1] = "away"
    assert trained_bytes(run(in_the_open, other, tmp_path / "open")) == trained_bytes(state)


def test_a_crash_repeats_one_site_and_leaves_no_model_on_the_coordinators_disk(
    whole, grid_of, tmp_path
):
    asked = experiment_in(tmp_path, *SEALED)
    fake = grid_of(sites_of(asked))
    fake.sites[12].tricks["train", 2] = Crash()
    with pytest.raises(Crash):
        run(asked, fake, tmp_path)
    first = values_of(to_arrays(first_model(asked, 3).state_dict()))
    places = {"checkpoints": config_hash(asked), "checkpoints/cycle": kept_hash(asked)}
    for place, known in places.items():
        found = load_latest(tmp_path / place, config_hash=known, model=first)
        for name, array in first.items():
            np.testing.assert_array_equal(found.arrays[GLOBAL][name], array)
    state = run(asked, fake, tmp_path, resume=True)
    assert sum(site.seen.count("train") for site in fake.sites.values()) == 7
    assert trained_bytes(state) == trained_bytes(whole[0])


def test_without_the_site_that_holds_the_model_nothing_goes_on(whole, grid_of, tmp_path):
    asked = experiment_in(tmp_path, *SEALED)
    fake = grid_of(sites_of(asked))
    for nth in range(3, 9):  # it gave its name and the key of cycle 1; the model never
        fake.sites[12].tricks["query.relay", nth] = "away"
    with pytest.raises(FederationError, match=r"site-3: .*holds the newest model"):
        run(asked, fake, tmp_path)
    fake.sites[12].tricks.clear()
    assert trained_bytes(run(asked, fake, tmp_path, resume=True)) == trained_bytes(whole[0])


def test_where_no_model_is_revealed_each_site_saves_the_last_one(whole, grid_of, tmp_path):
    asked = experiment_in(tmp_path, *SEALED, "aggregation.reveal=never")
    fake = recorded(grid_of, asked)
    state = run(asked, fake, tmp_path)
    first = first_model(asked, 3)
    assert trained_bytes(state) == wire.model_bytes(values_of(to_arrays(first.state_dict())))
    expected = trained_bytes(whole[0])
    for site in asked.federation.sites:
        model, card = load_model(tmp_path / "sites" / site / "model")
        assert wire.model_bytes(values_of(to_arrays(model.state_dict()))) == expected
        assert (card.site, card.round, card.mean) == (site, 2, (0.5,))
    told, wanted = b"".join(fake.dump), windows(expected) - windows(_first(fake))
    assert len(wanted) > 1000
    assert not holds_any(told, wanted)


# --- A coordinator that does not keep to it ------------------------------------------------------


@pytest.fixture(scope="module")
def caught(tmp_path_factory, grid_of):
    """The sites, and the message by which site-2 shall train what site-1 has sealed for it."""
    folder, found = tmp_path_factory.mktemp("caught"), []
    asked = experiment_in(folder, *SEALED)
    fake = grid_of(sites_of(asked))

    def stop(message):
        if message.metadata.message_type == "train":
            found.append(message)
            raise Crash
        return type(fake.sites[11]).answer(fake.sites[11], message)

    fake.sites[11].answer = stop
    with pytest.raises(Crash):
        run(asked, fake, folder)
    del fake.sites[11].answer
    return fake, found[0]


@pytest.fixture
def second_message(caught):
    """The message anew, as a coordinator may change it."""
    fake, message = caught
    return fake, Message(RecordDict(dict(message.content)), 11, "train")


def hop_of(message):
    return decode(wire.relay_part(message.content, wire.HOP), RelayHop)


def changed(message, **values):
    hop = replace(hop_of(message), **values)
    message.content[wire.RELAY] = ConfigRecord({wire.HOP: encode(hop)})
    return message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"position": 2}, "does not open"),
        ({"sender": "site-3"}, "does not open"),
        ({"sender": "paris"}, "a relay key of 0 bytes"),
        ({"receiver": "site-2"}, "expected one of this site for another"),
        ({"keys": {}}, "a relay key of 0 bytes"),
        ({"cycle": 2}, "has shown no key of cycle 2"),
        ({"cycle": 0}, "has shown no key of cycle 0"),
    ],
)
def test_a_message_that_was_changed_is_refused(second_message, values, said):
    fake, message = second_message
    reply = fake.sites[11].answer(changed(message, **values))
    assert reply.has_error()
    assert re.search(said, reply.error.reason), reply.error.reason


def test_swapped_keys_and_blobs_are_refused(second_message):
    fake, message = second_message
    hop = hop_of(message)
    keys = dict(zip(hop.keys, reversed(list(hop.keys.values())), strict=True))
    assert "verify" in fake.sites[11].answer(changed(message, keys=keys)).error.reason
    message = changed(message, keys=hop.keys)
    blob = bytearray(wire.sealed_bytes(message.content))
    blob[100] ^= 1
    message.content[wire.SEALED] = wire.sealed_record(bytes(blob))
    assert "does not open" in fake.sites[11].answer(message).error.reason


def test_another_site_does_not_open_what_was_sealed_for_site_2(second_message):
    fake, message = second_message
    message = changed(message, receiver="")
    assert "does not open" in fake.sites[12].answer(message).error.reason


def reveal(fake, node, cycle):
    hop = RelayHop(cycle, 0, fake.sites[node].name, "", {})
    query = relay_query(node, {wire.HOP: encode(hop)})
    query.metadata.__dict__["_message_id"] = "reveal"
    return fake.sites[node].answer(query)


def test_a_run_that_is_made_longer_gets_no_model_a_second_time(grid_of, tmp_path):
    asked = experiment_in(tmp_path, *SEALED)
    fake = grid_of(sites_of(asked))
    run(asked, fake, tmp_path)
    assert not reveal(fake, 12, 2).has_error()
    longer = replace(asked, federation=replace(asked.federation, rounds=3))
    fake.sites = sites_of(longer)
    said = reveal(fake, 12, 3).error.reason
    assert "the model of cycle 2 is of this run with other settings; expected the same" in said


def test_no_model_is_kept_for_good_where_the_last_one_is_revealed(second_message):
    fake, message = second_message
    query = relay_query(11, {wire.HOP: encode(replace(hop_of(message), receiver="site-2"))})
    said = fake.sites[11].answer(query).error.reason
    assert "a model to keep in cycle 1 of 2 with aggregation.reveal=end" in said


def test_a_model_in_the_clear_is_given_at_the_end_only_and_never_of_one_site(
    second_message,
):
    fake, _ = second_message
    said = reveal(fake, 10, 1).error.reason
    assert "the model of cycle 1 in the clear with aggregation.reveal=end" in said
    said = reveal(fake, 10, 2).error.reason
    assert "the model of 1 sites in the clear; expected one that at least" in said
    said = reveal(fake, 11, 2).error.reason
    assert "this site has trained nothing in this run" in said


@pytest.mark.parametrize("record", [{}, {"other": b"x"}])
def test_a_message_that_does_not_say_sealed_is_refused(second_message, record):
    fake, message = second_message
    if record:
        message.content[wire.RELAY] = ConfigRecord(record)
    else:
        del message.content[wire.RELAY]
    assert fake.sites[11].answer(message).has_error()


def test_a_model_in_the_clear_is_trained_in_the_first_cycle_only(caught):
    fake, message = caught
    _key_of(fake, 12, 2)
    clear = Message(RecordDict(dict(message.content)), 12, "train")
    said = fake.sites[12].answer(changed(clear, cycle=2, sender="", receiver="")).error.reason
    assert "a model in the clear in cycle 2" in said
    query = relay_query(12, {wire.KEYS: encode(KeysRequest(1))})
    assert "this site is in cycle 2" in fake.sites[12].answer(query).error.reason


def test_the_same_model_sealed_twice_shares_no_16_bytes(caught):
    fake, message = caught
    hop = replace(hop_of(message), sender="site-1", receiver="site-2")
    keys = {"site-2": _key_of(fake, 11)}
    found = []
    for _ in range(2):
        query = relay_query(10, {wire.HOP: encode(replace(hop, keys=keys))})
        found.append(wire.sealed_bytes(fake.sites[10].answer(query).content))
    assert len(found[0]) == len(found[1])
    assert not holds_any(found[1][:65536], windows(found[0][:65536]))


def _key_of(fake, node, cycle=1):
    query = relay_query(node, {wire.KEYS: encode(KeysRequest(cycle))})
    return wire.relay_part(fake.sites[node].answer(query).content, wire.KEYS)


def test_bytes_of_another_model_are_refused():
    like = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float64)}
    raw = wire.model_bytes({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2)})
    assert len(raw) == 6 * 4 + 2 * 8
    found = wire.model_of(raw, like)
    assert (list(found), found["w"].tolist()) == (["w", "b"], [[0, 1, 2], [3, 4, 5]])
    assert found["b"].tolist() == [1, 1]
    for wrong in (raw[:-1], raw + b"\0", b""):
        with pytest.raises(ProtocolError, match=f"a model of {len(wrong)} bytes; expected 40"):
            wire.model_of(wrong, like)
