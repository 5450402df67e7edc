"""A watch over real TLS in one process: lines that break, limits, a full disk; no mask twice."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from primia_flwr.data.files.arrivals import Arrival, Arrivals
from primia_flwr.data.files.unlabelled import Unlabelled
from primia_flwr.errors import ServiceError
from primia_flwr.inference.preprocessing import prefetch
from primia_flwr.inference.preprocessing.prepared import Prepared
from primia_flwr.inference.service import data_owner, model_owner, watch
from primia_flwr.inference.service.classify import classify_all
from primia_flwr.inference.service.data_owner import Session
from primia_flwr.inference.service.negotiation import Answer
from primia_flwr.inference.service.provider import Provider
from primia_flwr.inference.service.query_log import QueryLog
from primia_flwr.inference.service.watch import Limits, Watcher
from primia_flwr.inference.transport import keepalive as keepalive
from primia_flwr.inference.transport import messages
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.messages import OPEN_ENDED
from tests.inference.protocol.test_session import SIZE, Parties, plain

AWAY = "the crypto-provider cannot be reached"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(watch, "FIRST_PAUSE", 0.05)


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    with Parties(tmp_path / "service").running() as running:
        yield running


@dataclass
class Notes:
    """A book in memory, whose disk may be full."""

    found: dict[str, Tensor] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    is_full: bool = False

    def add(self, arrival: Arrival, answer: Answer) -> None:
        assert arrival.path.name not in self.found
        if answer.scores is None:
            self.outside.append(arrival.path.name)
        else:
            self.found[arrival.path.name] = answer.scores[0]

    def skip(self, arrival: Arrival, why: str) -> None:
        self.skipped[arrival.path.name] = why

    def save(self) -> bool:
        return not self.is_full


class Clinic:
    """A watch on a thread, and what it says."""

    def __init__(self, parties: Parties, folder: Path, *, pace: float = 0.0, **limits: Any) -> None:
        self.parties, self.folder = parties, folder
        self.book, self.said, self.sessions = Notes(), list[str](), list[Session]()
        self.error: BaseException | None = None
        folder.mkdir(exist_ok=True)
        self.watcher = Watcher(
            self._open,
            Arrivals(folder, settle=0.05),
            self.load,
            self.book,
            limits=Limits(**limits),
            say=self.said.append,
            breaks=self._breaks,
            pace=pace,
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def load(self, path: Path) -> Tensor:
        pixels = Unlabelled((path,), self.folder, SIZE, "squash", 1).load(path)
        return (pixels.float() / 255 - 0.5) / 0.25

    def bring(self, name: str, seed: int) -> Path:
        path, hidden = self.folder / name, self.folder / f".{name}"
        pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(pixels).save(hidden)
        return hidden.rename(path)

    def wait(self, what: Callable[[], object], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert self.error is None, self.error
            assert time.monotonic() < end, (self.said, self.book)
            time.sleep(0.005)

    def is_ready(self) -> bool:
        return bool(self.sessions) and self.sessions[-1].is_ready

    @contextmanager
    def watching(self) -> Iterator[Clinic]:
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join(20)
        if self.error is not None and not isinstance(self.error, KeyboardInterrupt):
            raise self.error

    def _breaks(self) -> Any:
        if self._over.is_set():
            raise KeyboardInterrupt
        return nullcontext()

    def _open(self) -> Session:
        session = self.parties.session(OPEN_ENDED)
        self.sessions.append(session)
        return session

    def _run(self) -> None:
        try:
            self.watcher.run()
        except BaseException as error:
            self.error = error


def agrees(clinic: Clinic) -> bool:
    names = list(clinic.book.found)
    images = torch.stack([clinic.load(clinic.folder / name) for name in names])
    scores = torch.stack([clinic.book.found[name] for name in names])
    return bool((scores - plain(images)).abs().max() < 0.005)


def test_images_are_classified_as_they_come_like_in_one_call(
    parties: Parties, tmp_path: Path
) -> None:
    clinic = Clinic(parties, tmp_path / "inbox")
    clinic.bring("b.png", 0)
    with clinic.watching():
        clinic.wait(lambda: clinic.book.found)
        for seed, name in enumerate(("c.png", "a.png", "0.png"), 1):
            clinic.bring(name, seed)
            clinic.wait(lambda seed=seed: len(clinic.book.found) == seed + 1)
    assert list(clinic.book.found) == ["b.png", "c.png", "a.png", "0.png"]
    assert len(clinic.sessions) == 1
    assert agrees(clinic)
    files = [clinic.folder / name for name in clinic.book.found]
    batch = classify_all(parties.session, lambda i: clinic.load(files[i]), range(4), batch=1)
    for opinion, scores in zip(batch, clinic.book.found.values(), strict=True):
        assert (opinion.scores - scores).abs().max() < 0.005
    assert not list((parties.folder / "store").glob("primia-store-*/*.sealed"))


def test_a_broken_file_is_skipped_and_done_when_it_is_mended(
    parties: Parties, tmp_path: Path
) -> None:
    clinic = Clinic(parties, tmp_path / "inbox")
    with clinic.watching():
        (clinic.folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
        clinic.wait(lambda: clinic.book.skipped)
        clinic.bring("b.png", 1)
        clinic.wait(lambda: "b.png" in clinic.book.found)
        clinic.bring("a.png", 2)
        clinic.wait(lambda: "a.png" in clinic.book.found)
    assert "damaged or cut off" in clinic.book.skipped["a.png"]
    assert agrees(clinic)


def test_a_folder_that_goes_is_said_once_and_when_it_is_back(
    parties: Parties, tmp_path: Path
) -> None:
    clinic = Clinic(parties, tmp_path / "inbox")
    with clinic.watching():
        clinic.bring("a.png", 1)
        clinic.wait(lambda: clinic.book.found)
        clinic.folder.rename(tmp_path / "away")
        clinic.wait(lambda: clinic.said)
        time.sleep(0.3)
        (tmp_path / "away").rename(clinic.folder)
        clinic.wait(lambda: len(clinic.said) == 2)
        clinic.bring("b.png", 2)
        clinic.wait(lambda: len(clinic.book.found) == 2)
    assert "is gone; nothing comes until it is back" in clinic.said[0]
    assert "is there again" in clinic.said[1]


def test_a_file_that_changes_while_it_waits_is_classified_once(
    parties: Parties, tmp_path: Path
) -> None:
    clinic = Clinic(parties, tmp_path / "inbox")
    with clinic.watching():
        clinic.wait(clinic.is_ready)
        clinic.book.is_full = True
        for seed in range(3):
            clinic.bring("a.png", seed)
            time.sleep(0.2)
        assert len(clinic.watcher.pending) == 1
        clinic.book.is_full = False
        clinic.wait(lambda: clinic.book.found)
        clinic.wait(lambda: not clinic.watcher.pending)
    assert agrees(clinic)


@dataclass
class Masks:
    """Every block that is opened, and every one that is used, at either party."""

    opened: list[Prepared] = field(default_factory=list)
    used: list[Prepared] = field(default_factory=list)

    def observe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = prefetch.prepare

        def prepare(*arguments: Any) -> Prepared:
            self.opened.append(real(*arguments))
            return self.opened[-1]

        monkeypatch.setattr(prefetch, "prepare", prepare)
        for module, name in ((data_owner, "DataOwner"), (model_owner, "ModelOwner")):
            monkeypatch.setattr(module, name, self._noting(getattr(module, name)))

    def _noting(self, real: Any) -> Any:
        def party(plan: Any, prepared: Prepared, *rest: Any, **options: Any) -> Any:
            self.used.append(prepared)
            return real(plan, prepared, *rest, **options)

        return party

    def check(self, images: int) -> None:
        """No two blocks share a mask, and none was used more than once."""
        r = [block.selections[0].r.tobytes() for block in self.opened]
        assert len(set(r)) == len(r)
        masks = [block.openings[0].numpy().tobytes() for block in self.opened if block.openings]
        assert len(set(masks)) == len(masks)
        used = [id(block) for block in self.used]
        assert len(set(used)) == len(used) >= 2 * images
        assert set(used) <= {id(block) for block in self.opened}


class Ends:
    """The ends of lines that each party holds; a party goes when all of its ends do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._held: dict[str, list[Channel]] = {}
        for owner, party in ((model_owner.Server, "model-owner"), (Provider, "crypto-provider")):
            monkeypatch.setattr(owner, "serve", self._noting(owner.serve, party))
        real = Parties.to

        def to(parties: Parties, role: Any, as_role: Any = "data-owner", **rest: Any) -> Channel:
            channel = real(parties, role, as_role, **rest)
            for name in (as_role, f"{as_role}, its line to the {role}"):
                self._held.setdefault(name, []).append(channel)
            return channel

        monkeypatch.setattr(Parties, "to", to)

    def cut(self, party: str) -> None:
        for channel in self._held[party]:
            with contextlib.suppress(OSError):
                channel._link.shutdown(socket.SHUT_RDWR)

    def _noting(self, real: Any, party: str) -> Any:
        def serve(server: Any, channel: Channel) -> None:
            self._held.setdefault(party, []).append(channel)
            real(server, channel)

        return serve


@pytest.mark.parametrize(
    "who",
    [
        *("data-owner", "model-owner", "crypto-provider"),
        *("data-owner, its line to the model-owner", "data-owner, its line to the crypto-provider"),
        "model-owner, its line to the crypto-provider",
    ],
)
def test_whoever_goes_while_a_block_is_open_and_unused_no_mask_serves_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    masks, ends = Masks(), Ends(monkeypatch)
    masks.observe(monkeypatch)
    with Parties(tmp_path / "service").running() as parties:
        clinic = Clinic(parties, tmp_path / "inbox")
        with clinic.watching():
            clinic.bring("a.png", 1)
            clinic.wait(lambda: clinic.book.found and clinic.is_ready())
            clinic.wait(lambda: len(masks.opened) >= 4)  # one used, one open, at each party
            ends.cut(who)
            clinic.wait(lambda: len(clinic.sessions) == 2 and clinic.is_ready())
            clinic.bring("b.png", 2)
            clinic.wait(lambda: "b.png" in clinic.book.found)
    masks.check(2)
    assert len(masks.opened) > len(masks.used)  # what was open and not used is burned
    assert not clinic.sessions[0]._supply._masked_weights  # else two sessions' lie in memory
    assert agrees(clinic)
    assert sum("connecting again" in line for line in clinic.said) == 1
    assert clinic.said[-1] == "connected again, with fresh randomness"


def test_without_the_crypto_provider_what_waits_is_used_then_it_connects_again(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic, real = Clinic(parties, tmp_path / "inbox"), Parties.to
    is_away = threading.Event()

    def to(self: Parties, role: Any, *rest: Any, **options: Any) -> Channel:
        if role == "crypto-provider" and is_away.is_set():
            raise ServiceError(AWAY)
        return real(self, role, *rest, **options)

    monkeypatch.setattr(Parties, "to", to)
    masks = Masks()
    masks.observe(monkeypatch)
    with clinic.watching():
        # Two blocks in the store and one open, at the model owner too.
        stored = (parties.folder / "store").glob
        clinic.wait(lambda: clinic.watcher.waiting == 3 and len(masks.opened) == 2)
        clinic.wait(lambda: len(list(stored("*/*.sealed"))) == 4)
        time.sleep(0.3)  # the last one is whole by then
        is_away.set()
        clinic.sessions[0]._supply._channel._link.shutdown(2)
        clinic.wait(lambda: any("can still be classified" in line for line in clinic.said))
        for number in range(3):
            clinic.bring(f"{number}.png", number)
        clinic.wait(lambda: len(clinic.book.found) == 3)
        clinic.bring("3.png", 3)
        time.sleep(0.3)
        assert len(clinic.book.found) == 3
        is_away.clear()
        clinic.wait(lambda: len(clinic.book.found) == 4)
    # The clinic's own attempt fails, and the model owner's may be told of before it: each once.
    assert f"{AWAY}; trying again" in clinic.said
    assert len(clinic.said) == len(set(clinic.said))
    assert agrees(clinic)


def test_two_reasons_that_take_turns_are_said_once_each_until_it_is_connected() -> None:
    pause, said = watch._Pause(), list[str]()
    reasons = [ServiceError(AWAY), ServiceError("the model-owner cannot be reached")]
    for reason in 3 * reasons:
        pause.begin(said.append, reason)
    assert said == [f"{reason}; trying again" for reason in reasons]
    pause.end()
    pause.begin(said.append, reasons[0])
    assert len(said) == 3


def test_at_the_limit_session_and_randomness_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "REFUSED_PAUSE", 0.1)
    with Parties(tmp_path / "service", limit=2).running() as parties:
        log: list[QueryLog] = []
        real = QueryLog.check

        def check(self: QueryLog, name: str, images: int) -> None:
            log.append(self)
            real(self, name, images)

        monkeypatch.setattr(QueryLog, "check", check)
        clinic = Clinic(parties, tmp_path / "inbox")
        with clinic.watching():
            for number in range(3):
                clinic.bring(f"{number}.png", number)
            clinic.wait(lambda: any("0 left of limit=2" in line for line in clinic.said))
            time.sleep(0.5)  # it is asked again, and nothing is said again
            assert len(clinic.book.found) == 2
            log[-1]._limit = 3
            clinic.wait(lambda: len(clinic.book.found) == 3)
        assert len(clinic.sessions) == 1
        assert len(clinic.said) == 1
        assert agrees(clinic)
        # Counted on use only: three images, whatever was made ahead.
        assert len((parties.folder / "queries.jsonl").read_text().splitlines()) == 3


def test_with_a_full_disk_nothing_is_classified_until_there_is_room(
    parties: Parties, tmp_path: Path
) -> None:
    clinic = Clinic(parties, tmp_path / "inbox")
    with clinic.watching():
        clinic.wait(clinic.is_ready)
        clinic.book.is_full = True
        clinic.bring("a.png", 1)
        time.sleep(0.4)
        assert not clinic.book.found
        clinic.book.is_full = False
        clinic.wait(lambda: clinic.book.found)


def test_an_image_that_ends_each_session_is_skipped_in_the_end(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, poison = Session.classify, list[Tensor]()

    def classify(self: Session, images: Tensor) -> Answer:
        if any(torch.equal(images[0], bad) for bad in poison):
            raise ServiceError("the other side ends it")
        return real(self, images)

    monkeypatch.setattr(Session, "classify", classify)
    clinic = Clinic(parties, tmp_path / "inbox")
    clinic.bring("bad.png", 1)
    poison.append(clinic.load(clinic.folder / "bad.png"))
    with clinic.watching():
        clinic.wait(lambda: clinic.book.skipped)
        clinic.bring("good.png", 2)
        clinic.wait(lambda: clinic.book.found)
    assert "3 attempts have failed" in clinic.book.skipped["bad.png"]
    assert list(clinic.book.found) == ["good.png"]


def test_a_session_that_has_had_all_its_blocks_is_followed_by_another(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_BATCHES", 2)
    clinic = Clinic(parties, tmp_path / "inbox")
    with clinic.watching():
        for number in range(5):
            clinic.bring(f"{number}.png", number)
        clinic.wait(lambda: len(clinic.book.found) == 5)
    assert len(clinic.sessions) >= 2
    assert agrees(clinic)


def test_a_watch_ends_by_itself(parties: Parties, tmp_path: Path) -> None:
    clinic = Clinic(parties, tmp_path / "inbox", idle=0.5)
    clinic.bring("a.png", 1)
    with clinic.watching():
        clinic._thread.join(20)
        assert not clinic._thread.is_alive()
    assert list(clinic.book.found) == ["a.png"]
    clinic = Clinic(parties, tmp_path / "other", seconds=0.3)
    with clinic.watching():
        clinic._thread.join(20)
        assert not clinic._thread.is_alive()


def test_a_first_session_that_cannot_be_opened_ends_it(tmp_path: Path) -> None:
    with Parties(tmp_path / "service").running() as parties:
        parties.ports["crypto-provider"] = 1
        clinic = Clinic(parties, tmp_path / "inbox")
        with pytest.raises(ServiceError, match="cannot be reached"), clinic.watching():
            clinic._thread.join(20)


def test_an_idle_session_lives_longer_than_any_silence(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(keepalive, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(keepalive, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(prefetch, "LOOK_SECONDS", 0.05)
    parties.settings = replace(parties.settings, timeout=1, patience=1)
    clinic = Clinic(parties, tmp_path / "inbox")
    with clinic.watching():
        clinic.wait(clinic.is_ready)
        time.sleep(5)
        clinic.bring("a.png", 1)
        clinic.wait(lambda: clinic.book.found)
    assert len(clinic.sessions) == 1
    assert not clinic.said


def test_a_model_owner_that_hangs_is_noticed_before_an_image_comes(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(keepalive, "SILENCE_SECONDS", 0.5)
    clinic, hangs = Clinic(parties, tmp_path / "inbox"), threading.Event()
    real = model_owner.Answering.poll

    def poll(self: Any, limits: Any, wait: float) -> Any:
        if hangs.wait(0) and self._channel.peer.role == "data-owner":
            time.sleep(5)
        return real(self, limits, wait)

    monkeypatch.setattr(model_owner.Answering, "poll", poll)
    with clinic.watching():
        clinic.wait(clinic.is_ready)
        hangs.set()
        clinic.wait(lambda: any("has said nothing for" in line for line in clinic.said), 4)
        hangs.clear()
        clinic.wait(lambda: len(clinic.sessions) == 2)


def test_an_idle_session_ends_when_the_model_owner_has_had_enough(tmp_path: Path) -> None:
    service = Parties(tmp_path / "service")
    service.settings = replace(service.settings, idle=0.5)
    with service.running() as parties:
        clinic = Clinic(parties, tmp_path / "inbox")
        with clinic.watching():
            clinic.wait(lambda: len(clinic.sessions) == 2)
    assert any("has asked for nothing" in line for line in clinic.said)


def test_watching_leaves_a_place_for_those_who_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = model_owner.Server.__init__

    def of_one(self: Any, *rest: Any, **options: Any) -> None:
        real(self, *rest, **options, max_watching=1)

    monkeypatch.setattr(model_owner.Server, "__init__", of_one)
    with Parties(tmp_path).running() as parties:
        first = parties.session(OPEN_ENDED)
        with pytest.raises(ServiceError, match="all 1 places for data owners that watch are taken"):
            parties.session(OPEN_ENDED, name="clinic-b")
        with parties.session(1, name="clinic-b") as call:
            call.classify(torch.zeros(1, 1, SIZE, SIZE))
        with first:
            pass
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                with parties.session(OPEN_ENDED, name="clinic-b"):
                    return
            except ServiceError:
                time.sleep(0.05)  # the model owner has not heard the goodbye yet
        pytest.fail("the place was not given back")


def test_a_session_without_a_block_ends_at_the_crypto_provider(tmp_path: Path) -> None:
    with (
        Parties(tmp_path / "service", provider=Provider(idle=0.5)).running() as parties,
        Clinic(parties, tmp_path / "inbox").watching() as clinic,
    ):
        clinic.wait(lambda: any("no block was wished for" in line for line in clinic.said))
        clinic.wait(lambda: len(clinic.sessions) == 2)


def test_a_call_that_stays_and_asks_for_nothing_is_ended(tmp_path: Path) -> None:
    service = Parties(tmp_path)
    service.settings = replace(service.settings, patience=1.0)
    with service.running() as parties:
        call, end = parties.session(1), time.monotonic() + 20

        def stay() -> None:
            while time.monotonic() < end:
                call.maintain()
                time.sleep(0.05)

        with pytest.raises(ServiceError, match="has asked for nothing for 1 s"):
            stay()
        call.abandon()
