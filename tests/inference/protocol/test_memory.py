"""What a session takes of memory is known, and refused, before any of it is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError, PolicyRefusal, PrimiaError, ServiceError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.correlation_spec import Compared, CorrelationSpec, Product
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.plan import Linear, Open, Plan, Relu, Reveal
from primia_flwr.inference.preprocessing.dealing import part_bytes, stored_bytes
from primia_flwr.inference.protocol.memory import (
    GB,
    Budget,
    SessionMemory,
    batch_that_fits,
    check_session,
    dealing_bytes,
    room_for,
)
from primia_flwr.inference.service import data_owner
from primia_flwr.inference.service.provider import Provider
from primia_flwr.models.registry import build_model
from tests.inference.protocol.test_session import Parties, images, served

SMALL = SessionMemory(fixed=100, each=10)


def tiny(batch: int) -> Plan:
    """A matrix product, 3 numbers to 2, and their ReLU."""
    return Plan(
        (batch, 3),
        (
            Open(0, 0, (batch, 3)),
            Linear(0, 1, 0, (2, 3), (batch, 2)),
            Relu(1, 2, 0, (batch, 2)),
            Reveal(2, (batch, 2)),
        ),
        (8,),
    )


@pytest.mark.parametrize("batch", [1, 5])
def test_a_session_is_counted_by_hand(batch: int) -> None:
    spec = CorrelationSpec.of(tiny(batch))
    assert spec.products == (Product(0, (2, 3), (batch, 2), None),)
    assert spec.comparisons == (Compared(2 * batch, 8),)
    values = 3 + 2 + 2 + 2  # of one image, step by step
    for party, masks in ((ring.DATA_OWNER, 3), (ring.MODEL_OWNER, 0)):
        found = SessionMemory.of(party, tiny(batch))
        assert found.fixed == 300_000_000 + 2 * 8 * 6  # libraries; six weights and their masks
        # Open: a product of 2; twice r, tables of 3 words, ten pairs, a byte of mask bits.
        held = batch * (8 * 2 + 2 * (8 + 8 * 3 + 16 * 10 + 1))
        assert held > stored_bytes(party, spec)
        block = 2 * held + 4 * max(part_bytes(party, spec))
        assert found.each == -(-(block + 8 * batch * (2 * values + 2 * masks)) // batch)
        assert found.of_batch(3) == found.fixed + 3 * found.each


def test_all_but_the_weights_is_in_proportion_to_the_batch() -> None:
    model = build_model(ModelConfig(name="simpleconv"), outputs=3, channels=1, seed=0).eval()
    one, eight = (
        SessionMemory.of(ring.MODEL_OWNER, lower(model, (batch, 1, 16, 16)).plan)
        for batch in (1, 8)
    )
    assert one.fixed == eight.fixed
    assert eight.each <= one.each <= eight.each * 1.001


def test_the_room_is_what_there_is_or_what_was_said() -> None:
    assert room_for(0, available=10 * GB) == 9 * GB
    assert room_for(4.5, available=10 * GB) == int(4.5 * GB)
    with pytest.raises(ConfigError, match=r"max_memory=11; this machine has 10\.0 GB left"):
        room_for(11, available=10 * GB)


@pytest.mark.parametrize(
    ("max_batch", "sessions", "room", "expected"),
    [(0, 1, 1000, 16), (0, 2, 300, 5), (5, 2, 300, 5), (1, 2, 220, 1)],
)
def test_a_batch_that_fits(max_batch: int, sessions: int, room: int, expected: int) -> None:
    found = batch_that_fits(SMALL, sessions=sessions, max_batch=max_batch, room=room)
    assert found == expected


@pytest.mark.parametrize(
    ("max_batch", "sessions", "room", "words"),
    [
        (6, 2, 300, "max_batch=5 or max_batch=1 max_sessions=2 or"),  # 2 * 160 > 300
        (6, 2, 300, "or max_batch=6 max_sessions=1"),
        (0, 3, 300, "e.g. max_batch=1 max_sessions=2"),  # 3 * 110 > 300
        (1, 1, 109, "does not hold one session with 1 image"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    max_batch: int, sessions: int, room: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        batch_that_fits(SMALL, sessions=sessions, max_batch=max_batch, room=room)


def test_a_data_owner_refuses_a_session_that_does_not_fit() -> None:
    check_session(SMALL, batch=4, room=140)
    with pytest.raises(ConfigError, match="lower it to batch=4"):
        check_session(SMALL, batch=5, room=149)
    with pytest.raises(ConfigError, match="not even batch=1 fits"):
        check_session(SMALL, batch=1, room=109)


def test_what_sessions_take_together_is_bounded() -> None:
    budget = Budget(100)
    with budget.reserve(60):
        with pytest.raises(PolicyRefusal, match="are left"), budget.reserve(41):
            pass
        with budget.reserve(40):
            pass
    with budget.reserve(100):
        pass


def test_a_data_owner_takes_nothing_of_an_offer_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it went on")

    monkeypatch.setattr(data_owner, "join", never)
    with Parties(tmp_path).running() as parties:
        small = replace(parties.settings, max_memory=0.001)
        with pytest.raises(ConfigError, match="not even batch=1 fits"):
            parties.session(1, settings=small)


def test_the_crypto_provider_deals_no_session_beyond_its_memory(tmp_path: Path) -> None:
    spec = [dealing_bytes(CorrelationSpec.of(served().lowered(batch).plan)) for batch in (1, 2)]
    provider = Provider(room=spec[1] - 1)
    with Parties(tmp_path, provider=provider).running() as parties:
        with pytest.raises(ServiceError, match="of memory here, and"):
            parties.session(1, batch=2)
        with parties.session(1) as session:
            assert session.classify(images(1)).scores is not None


def test_a_batch_beyond_the_bound_is_refused_before_anything_is_made_for_it(
    tmp_path: Path,
) -> None:
    model = served()
    with Parties(tmp_path, model=model).running() as parties:
        with pytest.raises(PrimiaError, match="batch=17; this server takes at most 16"):
            parties.session(1, batch=17)
        assert model.lowered.cache_info().currsize == 0  # type: ignore[attr-defined]


def test_the_weights_are_there_once_for_all_batches() -> None:
    model = served()
    one, two = model.lowered(1), model.lowered(2)
    assert all(a is b for a, b in zip(one.weights, two.weights, strict=True))
    assert two.plan.input_shape[0] == 2
