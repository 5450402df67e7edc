"""Audited sessions of three parties over TLS: who may ask, what is told to whom, what goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from primia_flwr.errors import ConfigError, ProtocolError, ServiceError
from primia_flwr.inference.overflow.check import Key, Lock
from primia_flwr.inference.preprocessing import prefetch
from primia_flwr.inference.preprocessing.prepared import Prepared
from primia_flwr.inference.service import negotiation as offers
from primia_flwr.inference.service.classify import classify_all
from primia_flwr.inference.service.model_owner import ServedModel
from primia_flwr.inference.transport.messages import Hello
from tests.inference.protocol.test_session import CARD, Parties, images, plain, served

WITHIN, OUTSIDE = 32, 8


def auditing(folder: Path, bits: int) -> Parties:
    parties = Parties(folder, model=ServedModel(served().model, CARD, "ab" * 32, bits))
    parties.settings = replace(parties.settings, audit=True)
    return parties


@pytest.fixture
def within(tmp_path: Path) -> Iterator[Parties]:
    with auditing(tmp_path, WITHIN).running() as running:
        yield running


def test_an_audited_session_gives_the_plain_models_scores(within: Parties) -> None:
    values = images(4)
    with within.session(2, batch=2) as session:
        answers = [session.classify(values[:2]), session.classify(values[2:])]
    assert session.plan.audit
    assert session.rounds == 26  # as without
    scores = torch.cat([answer.scores for answer in answers])  # type: ignore[misc]
    assert (scores - plain(values)).abs().max() < 0.005


def test_images_outside_have_no_scores_and_the_session_goes_on(tmp_path: Path) -> None:
    values, errors = images(3), list[Any]()
    with auditing(tmp_path, OUTSIDE).running() as parties:
        opinions = list(
            classify_all(
                parties.session, lambda i: values[i], range(3), batch=1, on_error=errors.append
            )
        )
    assert [opinion.index for opinion in opinions] == [0, 1, 2]
    assert all(opinion.scores is None for opinion in opinions)
    assert not errors
    assert all(opinion.seconds > 0 and opinion.bytes_sent > 0 for opinion in opinions)
    # Nothing is asked again: three images, three queries.
    assert len((tmp_path / "queries.jsonl").read_text().splitlines()) == 3


def test_who_does_not_ask_has_no_audit(within: Parties) -> None:
    with within.session(1, settings=replace(within.settings, audit=False)) as session:
        scores = session.classify(images(1)).scores
    assert scores is not None
    assert not session.plan.audit


def test_a_server_that_allows_no_audit_refuses_before_anything_is_counted(tmp_path: Path) -> None:
    with (
        Parties(tmp_path).running() as parties,
        pytest.raises(ServiceError, match="audit=true; this server takes part in no audit"),
    ):
        parties.session(1, settings=replace(parties.settings, audit=True))
    assert not (tmp_path / "queries.jsonl").exists()


def test_a_ring_that_is_too_large_is_refused_by_either_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(ConfigError, match="audit=true with compare_bits=60"),
        auditing(tmp_path, 60).running(),
    ):
        pass
    # A model owner that offers one all the same.
    for check in ("check_products", "check_audit"):
        monkeypatch.setattr(f"primia_flwr.inference.service.model_owner.{check}", lambda *_: None)
    with (
        auditing(tmp_path, 60).running() as parties,
        pytest.raises(ConfigError, match="compare_bits=60; expected at most 47"),
    ):
        parties.session(1)


def test_a_model_owner_that_leaves_the_audit_out_is_refused(
    within: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan's digest has the audit in it."""

    def silent(*arguments: Any) -> Hello:
        return Hello(*arguments[:5])

    monkeypatch.setattr(offers, "Hello", silent)
    with pytest.raises(ProtocolError, match="by another plan"):
        within.session(1)


def test_every_block_has_a_key_and_a_lock_of_its_own(
    within: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Prepared] = []
    real = prefetch.prepare

    def watched(*arguments: Any) -> Prepared:
        used.append(real(*arguments))
        return used[-1]

    monkeypatch.setattr(prefetch, "prepare", watched)
    with within.session(3) as session:
        for image in images(3):
            session.classify(image[None])
    keys = [one.release for one in used if isinstance(one.release, Key)]
    locks = [one.release for one in used if isinstance(one.release, Lock)]
    assert len({key.pad.tobytes() for key in keys}) == len(keys) == 3
    assert len({key.key.tobytes() for key in keys}) == 3
    assert len({lock.rows.tobytes() for lock in locks}) == len(locks) == 3
    assert len({lock.offset.tobytes() for lock in locks}) == 3
    checks = [one.selections[0].checks for one in used]
    assert all(check is not None for check in checks)
    assert len({check.equal.tobytes() for check in checks if check is not None}) == 6
