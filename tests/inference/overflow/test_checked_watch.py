"""A watch with audit: an image outside ends nothing, is asked once, and does not show in time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from primia_flwr.data.files.arrivals import Arrival
from primia_flwr.errors import ServiceError
from primia_flwr.inference.overflow.check import Key, Lock
from primia_flwr.inference.service import watch
from primia_flwr.inference.service.data_owner import Session
from primia_flwr.inference.service.model_owner import ServedModel
from primia_flwr.inference.service.negotiation import Answer
from primia_flwr.inference.transport.messages import OPEN_ENDED
from tests.inference.protocol.test_session import CARD, SIZE, Parties, served
from tests.inference.service.test_watch import Clinic, Ends, Masks, agrees, quick  # noqa: F401

BITS = 14  # |x| < 1: a grey image stays far below, a noisy one goes beyond
ANSWER = Answer(None, 0.1, 1, 1)


def auditing(folder: Path) -> Parties:
    parties = Parties(folder, model=ServedModel(served().model, CARD, "ab" * 32, BITS))
    parties.settings = replace(parties.settings, audit=True)
    return parties


def bring_grey(clinic: Clinic, name: str) -> None:
    hidden = clinic.folder / f".{name}"
    Image.new("L", (SIZE, SIZE), 128).save(hidden, format="png")
    hidden.rename(clinic.folder / name)


def done(clinic: Clinic) -> int:
    return len(clinic.book.found) + len(clinic.book.outside)


def test_an_image_outside_is_noted_and_the_watch_goes_on(tmp_path: Path) -> None:
    with auditing(tmp_path / "service").running() as parties:
        clinic = Clinic(parties, tmp_path / "inbox")
        with clinic.watching():
            bring_grey(clinic, "a.png")
            clinic.wait(lambda: done(clinic) == 1)
            clinic.bring("b.png", 1)
            clinic.wait(lambda: done(clinic) == 2)
            bring_grey(clinic, "c.png")
            clinic.wait(lambda: done(clinic) == 3)
        assert agrees(clinic)
    assert list(clinic.book.found) == ["a.png", "c.png"]
    assert clinic.book.outside == ["b.png"]
    assert not clinic.book.skipped
    assert not clinic.said
    assert len(clinic.sessions) == 1
    # Nothing is asked again: three images, three queries.
    assert len((parties.folder / "queries.jsonl").read_text().splitlines()) == 3


def test_a_block_that_was_open_and_unused_takes_its_key_and_lock_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, ends = Masks(), Ends(monkeypatch)
    masks.observe(monkeypatch)
    with auditing(tmp_path / "service").running() as parties:
        clinic = Clinic(parties, tmp_path / "inbox")
        with clinic.watching():
            clinic.bring("a.png", 1)
            clinic.wait(lambda: done(clinic) == 1 and clinic.is_ready())
            clinic.wait(lambda: len(masks.opened) >= 4)  # one used, one open, at each party
            ends.cut("data-owner")
            clinic.wait(lambda: len(clinic.sessions) == 2 and clinic.is_ready())
            bring_grey(clinic, "b.png")
            clinic.wait(lambda: done(clinic) == 2)
    masks.check(2)
    keys = [one.release for one in masks.opened if isinstance(one.release, Key)]
    locks = [one.release for one in masks.opened if isinstance(one.release, Lock)]
    assert len(keys) + len(locks) == len(masks.opened) > len(masks.used)
    assert len({key.pad.tobytes() for key in keys}) == len(keys)
    assert len({key.key.tobytes() for key in keys}) == len(keys)
    assert len({lock.rows.tobytes() for lock in locks}) == len(locks)


def test_a_watch_is_refused_where_no_audit_is_allowed(tmp_path: Path) -> None:
    with Parties(tmp_path / "service").running() as parties:
        parties.settings = replace(parties.settings, audit=True)
        clinic = Clinic(parties, tmp_path / "inbox")
        with pytest.raises(ServiceError, match="takes part in no audit"), clinic.watching():
            clinic._thread.join(20)


@pytest.mark.parametrize(
    ("took", "until"), [(0.0, 0.5), (0.03, 0.5), (0.4, 0.5), (0.7, 1.0), (1.2, 1.5)]
)
def test_whatever_an_answer_takes_the_next_step_is_at_a_multiple_of_the_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: float, until: float
) -> None:
    clinic, clock = Clinic(Parties(tmp_path), tmp_path / "inbox", pace=0.5), [100.0]

    def passes(seconds: float) -> None:
        clock[0] += seconds

    def add(arrival: Arrival, answer: Answer) -> None:
        passes(took)

    monkeypatch.setattr(clinic.book, "add", add)
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=passes))
    arrival = Arrival(clinic.folder / "a.png", (0, 0), 0.0)
    clinic.watcher._queue.append(arrival)
    clinic.watcher._take(arrival, ANSWER)
    assert clock[0] == pytest.approx(100.0 + until)
    assert not clinic.watcher.pending


def test_the_model_owner_hears_of_the_next_image_no_sooner_than_the_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with scores, which are written down at once, nor without, where that takes longer."""
    answered, begun = list[float](), list[float]()
    real_begin, real_classify = Session._begin, Session.classify

    def begin(session: Session, number: int) -> None:
        begun.append(time.monotonic())
        real_begin(session, number)

    def classify(session: Session, images: Tensor) -> Answer:
        answer = real_classify(session, images)
        answered.append(time.monotonic())
        return answer

    monkeypatch.setattr(Session, "_begin", begin)
    monkeypatch.setattr(Session, "classify", classify)
    with auditing(tmp_path / "service").running() as parties:
        clinic = Clinic(parties, tmp_path / "inbox", pace=0.5)
        real_add = clinic.book.add

        def add(arrival: Arrival, answer: Any) -> None:
            time.sleep(0.3 if answer.scores is None else 0.0)
            real_add(arrival, answer)

        monkeypatch.setattr(clinic.book, "add", add)
        bring_grey(clinic, "a.png")
        clinic.bring("b.png", 1)
        bring_grey(clinic, "c.png")
        with clinic.watching():
            clinic.wait(lambda: done(clinic) == 3)
    assert clinic.book.outside == ["b.png"]
    waits = [later - earlier for earlier, later in zip(answered[:2], begun[1:], strict=True)]
    assert min(waits) >= 0.5


def test_an_open_session_has_its_audit_in_the_plan(tmp_path: Path) -> None:
    with auditing(tmp_path).running() as parties, parties.session(OPEN_ENDED) as session:
        answer = session.classify(torch.zeros(1, 1, SIZE, SIZE))
    assert session.plan.audit
    assert answer.scores is not None
