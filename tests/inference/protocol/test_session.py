"""All three parties in one process over real TLS, and each of them dying at each step."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import PrimiaError, ServiceError
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.preprocessing import prefetch
from primia_flwr.inference.preprocessing.prepared import Prepared
from primia_flwr.inference.protocol.session import Settings
from primia_flwr.inference.service import data_owner, model_owner
from primia_flwr.inference.service import negotiation as offers
from primia_flwr.inference.service import provider as provider_module
from primia_flwr.inference.service.classify import classify_all
from primia_flwr.inference.service.data_owner import Session
from primia_flwr.inference.service.model_owner import ServedModel, Server
from primia_flwr.inference.service.provider import Provider
from primia_flwr.inference.service.query_log import QueryLog
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.credentials import Role
from primia_flwr.inference.transport.listener import Listener
from primia_flwr.inference.transport.messages import Join, Kind
from primia_flwr.models.activation_bounds import ActivationBounds
from primia_flwr.models.card import ModelCard
from primia_flwr.models.registry import build_model
from tests.inference.links import credentials

SIZE = 16
CARD = ModelCard(
    model=ModelConfig(name="simpleconv"),
    classes=("bacterial", "normal", "viral"),
    channels=1,
    image_size=SIZE,
    resize="squash",
    mean=(0.5,),
    std=(0.25,),
    config_hash="0" * 16,
    round=1,
    synthetic=True,
)


def served() -> ServedModel:
    model = build_model(CARD.model, outputs=3, channels=1, seed=0).eval()
    return ServedModel(model, CARD, "ab" * 32, 32)


@dataclass
class Parties:
    """A model owner and a crypto provider that listen; `session` opens one of a data owner."""

    folder: Path
    model: ServedModel = field(default_factory=served)
    limit: int = 1000
    provider: Provider = field(default_factory=Provider)
    settings: Settings = field(init=False)
    ports: dict[Role, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = Settings(prefetch=2, store=self.folder / "store", timeout=10, patience=20)

    @contextmanager
    def running(self) -> Iterator[Parties]:
        own = credentials("model-owner")
        log = QueryLog(self.folder / "queries.jsonl", limit=self.limit)
        server = Server(
            self.model,
            lambda: self.to("crypto-provider", "model-owner"),
            log,
            own_fingerprint=own.own.fingerprint,
            settings=self.settings,
        )
        with (
            self._listening("crypto-provider", ["data-owner", "model-owner"], self.provider.serve),
            self._listening("model-owner", ["data-owner"], server.serve),
        ):
            yield self

    @contextmanager
    def _listening(
        self, role: Role, accept: list[Role], serve: Callable[[Channel], None]
    ) -> Iterator[None]:
        with Listener("127.0.0.1:0", credentials(role), accept=accept, timeout=20) as listener:
            self.ports[role] = listener.port

            def loop() -> None:
                for channel in listener:
                    threading.Thread(target=serve, args=(channel,), daemon=True).start()

            thread = threading.Thread(target=loop, daemon=True)
            thread.start()
            yield
            listener.close()
            thread.join(10)

    def to(self, role: Role, as_role: Role = "data-owner", name: str = "clinic-a") -> Channel:
        address = f"127.0.0.1:{self.ports[role]}"
        return connect(address, credentials(as_role, name), expect=role, timeout=20)

    def session(
        self,
        batches: int,
        *,
        batch: int = 1,
        name: str = "clinic-a",
        settings: Settings | None = None,
    ) -> Session:
        return Session(
            self.to("model-owner", name=name),
            lambda: self.to("crypto-provider", name=name),
            own_fingerprint=credentials("data-owner", name).own.fingerprint,
            batch=batch,
            batches=batches,
            settings=settings or self.settings,
        )


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    with Parties(tmp_path).running() as running:
        yield running


def images(count: int) -> Tensor:
    return torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def plain(values: Tensor) -> Tensor:
    with torch.inference_mode():
        scores: Tensor = served().model(values)
    return scores


def test_a_session_gives_the_plain_models_scores(parties: Parties) -> None:
    values = images(4)
    with parties.session(2, batch=2) as session:
        session.fetch_ahead()
        answers = [session.classify(values[:2]), session.classify(values[2:])]
    scores = torch.cat([answer.scores for answer in answers])
    assert (scores - plain(values)).abs().max() < 0.005
    assert session.card == replace(CARD, config_hash="")
    assert not list((parties.folder / "store").glob("primia-store-*/*.sealed"))


def test_the_offer_does_not_say_where_the_model_comes_from(tmp_path: Path) -> None:
    model = served()
    secret = "/home/vendor/first.safetensors"
    model.card = replace(CARD, model=replace(CARD.model, weights=secret), config_hash="a" * 16)
    with Parties(tmp_path, model=model).running() as parties, parties.session(1) as session:
        offered = json.dumps(session.offer.card)
    assert "vendor" not in offered
    assert "aaaa" not in offered


@pytest.mark.parametrize("number", [1, 2**63])
def test_a_batch_beyond_those_announced_is_refused_at_once(parties: Parties, number: int) -> None:
    session = parties.session(1)
    session.fetch_ahead()
    session._channel.send(Kind.BEGIN, number.to_bytes(8, "big"))
    with pytest.raises(ServiceError, match=f"batch {number} of 1; expected one of them"):
        session._channel.receive(Kind.BEGIN, at_most=0)
    session.abandon()


def test_a_model_owner_that_goes_after_the_last_answer_spoils_nothing(parties: Parties) -> None:
    values = images(1)

    def ask() -> Tensor:
        with parties.session(1) as session:
            scores = session.classify(values).scores
            session._channel.close()  # the line is gone before the goodbye
        return scores

    assert (ask() - plain(values)).abs().max() < 0.005


def test_who_would_fetch_more_ahead_than_the_other_does_not_wait_for_ever(
    parties: Parties,
) -> None:
    mine = replace(parties.settings, prefetch=50, patience=10)
    values = images(4)
    with parties.session(4, settings=mine) as session:
        session.fetch_ahead()  # the model owner lets two blocks wait
        scores = torch.cat([session.classify(values[i : i + 1]).scores for i in range(4)])
    assert (scores - plain(values)).abs().max() < 0.005


def test_a_small_store_holds_one_block_at_a_time(parties: Parties) -> None:
    mine = replace(parties.settings, store_bytes=1, patience=10)
    values = images(2)
    with parties.session(2, settings=mine) as session:
        session.fetch_ahead()
        scores = torch.cat([session.classify(values[i : i + 1]).scores for i in range(2)])
    assert (scores - plain(values)).abs().max() < 0.005


def test_two_data_owners_at_once(parties: Parties) -> None:
    found: dict[str, Tensor] = {}

    def ask(name: str, values: Tensor) -> None:
        with parties.session(1, name=name) as session:
            found[name] = session.classify(values).scores

    values = images(2)
    threads = [
        threading.Thread(target=ask, args=(name, values[i : i + 1]))
        for i, name in enumerate(("clinic-a", "clinic-b"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    scores = torch.cat([found["clinic-a"], found["clinic-b"]])
    assert (scores - plain(values)).abs().max() < 0.005


def test_more_images_than_the_limit_are_refused(tmp_path: Path) -> None:
    with Parties(tmp_path, limit=2).running() as parties:
        with pytest.raises(ServiceError, match="asks for 3 images and has 2 left of limit=2"):
            parties.session(3)
        with parties.session(2) as session:
            session.classify(images(1))


def test_a_batch_larger_than_the_server_takes_is_refused(parties: Parties) -> None:
    with pytest.raises(ServiceError, match="batch=17; this server takes at most 16"):
        parties.session(1, batch=17)


def test_a_model_owner_whose_plan_is_another_is_refused(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = offers.lower
    monkeypatch.setattr(
        offers, "lower", lambda model, shape, compare_bits: real(model, shape, compare_bits=24)
    )
    with pytest.raises(PrimiaError, match="by another plan"):
        parties.session(1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 10**6),
        ("channels", "1"),
        ("std", (0.0,)),
        ("resize", "stretch"),
        ("classes", ("a",)),
        ("classes", ("a", "=1+1")),
        ("mean", ()),
        ("std", [1e-6]),  # a white pixel would be 2^19: too large, whatever the image
        ("std", [float("nan")]),
        ("mean", [float("inf")]),
        ("activation_bounds", {"images": 1}),
    ],
)
def test_a_card_out_of_range_is_refused(
    parties: Parties, monkeypatch: pytest.MonkeyPatch, key: str, value: Any
) -> None:
    values = {**CARD.to_dict(), key: value}
    monkeypatch.setattr(model_owner, "public_card", lambda _: values)
    with pytest.raises(PrimiaError, match=r"model card|not JSON"):
        parties.session(1)


def test_bounds_stay_with_the_model_owner(tmp_path: Path) -> None:
    bounds = ActivationBounds(7, 4, ("relu",), (1.5,), (20,))
    model = replace(served(), card=replace(CARD, activation_bounds=bounds), calibrated=7)
    with Parties(tmp_path, model=model).running() as parties, parties.session(1) as session:
        assert "activation_bounds" not in session.offer.card
        assert session.card.activation_bounds is None
        assert session.offer.calibrated == 7


def test_who_comes_alone_is_told_so(tmp_path: Path) -> None:
    with Parties(tmp_path, provider=Provider(patience=0.5)).running() as parties:
        spec = CorrelationSpec.of(parties.model.lowered(1).plan)
        with pytest.raises(ServiceError, match=r"did not come within 0\.5 s"):
            prefetch.join(parties.to("crypto-provider"), Join("ab" * 32, "AA", "fss"), spec)


def test_a_model_owner_that_gives_up_is_heard_while_one_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Parties.to

    def to(self: Parties, role: Role, as_role: Role = "data-owner", **names: str) -> Channel:
        if (role, as_role) == ("crypto-provider", "model-owner"):
            raise ServiceError("it has no line to the crypto-provider")
        return real(self, role, as_role, **names)

    monkeypatch.setattr(Parties, "to", to)
    with Parties(tmp_path, provider=Provider(patience=60)).running() as parties:
        started = time.monotonic()
        with pytest.raises(ServiceError, match="it has no line to the crypto-provider"):
            parties.session(1)
        assert time.monotonic() - started < 15


def test_somebody_between_the_two_is_noticed(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = data_owner.Join
    monkeypatch.setattr(
        data_owner, "Join", lambda session, _, protocol: real(session, "AA:BB", protocol)
    )
    with pytest.raises(ServiceError, match="is somebody between"):
        parties.session(1).fetch_ahead()


@dataclass
class Death:
    """Closes one party's end of its lines when it has sent so many frames of a kind."""

    party: Role
    kind: Kind
    after: int
    done: bool = False
    seen: int = 0

    def wrap(self, real: Callable[..., None]) -> Callable[..., None]:
        def send(channel: Channel, kind: int, *parts: Any) -> None:
            mine = {
                "crypto-provider": kind in (Kind.JOINED, Kind.PART),
                "model-owner": channel.peer.role == "data-owner",
                "data-owner": channel.peer.role == "model-owner",
            }
            if not self.done and kind == self.kind and mine[self.party]:
                self.seen += 1
                if self.seen > self.after:
                    self.done = True
                    channel.close()
                    raise ServiceError("this process is gone")
            real(channel, kind, *parts)

        return send


DEATHS = [
    Death("data-owner", Kind.HELLO, 0),
    Death("model-owner", Kind.OFFER, 0),
    Death("crypto-provider", Kind.JOINED, 0),
    Death("crypto-provider", Kind.JOINED, 1),
    Death("model-owner", Kind.WEIGHTS, 2),
    Death("crypto-provider", Kind.PART, 0),
    Death("crypto-provider", Kind.PART, 7),
    Death("data-owner", Kind.BEGIN, 0),
    Death("model-owner", Kind.BEGIN, 0),
    *(Death("data-owner", Kind.ONLINE, n) for n in (0, 1, 5, 12)),
    *(Death("model-owner", Kind.ONLINE, n) for n in (0, 1, 5, 12)),
]


@pytest.mark.parametrize("death", DEATHS, ids=lambda d: f"{d.party}-{d.kind.name}-{d.after}")
def test_whoever_dies_whenever_no_mask_serves_twice(
    parties: Parties, monkeypatch: pytest.MonkeyPatch, death: Death
) -> None:
    used: list[Prepared] = []
    real = prefetch.prepare

    def watched(*arguments: Any) -> Prepared:
        used.append(real(*arguments))
        return used[-1]

    monkeypatch.setattr(prefetch, "prepare", watched)
    monkeypatch.setattr(Channel, "send", death.wrap(Channel.send))
    values = images(2)
    errors: list[PrimiaError] = []

    def ask() -> list[Tensor]:
        return [
            opinion.scores
            for opinion in classify_all(
                parties.session, lambda i: values[i], range(2), batch=1, on_error=errors.append
            )
        ]

    try:
        scores = ask()
    except PrimiaError as error:  # it died while the session was opened: the user asks again
        errors.append(error)
        scores = ask()
    assert (torch.stack(scores) - plain(values)).abs().max() < 0.005
    assert death.done
    assert len(errors) == 1
    masks = [prepared.openings[0].numpy().tobytes() for prepared in used if prepared.openings]
    assert len(set(masks)) == len(masks) >= 2
    r = [prepared.selections[0].r.tobytes() for prepared in used]
    assert len(set(r)) == len(r) >= 4


def test_a_batch_that_fails_again_and_again_is_given_up(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always(channel: Channel, kind: int, *parts: Any) -> None:
        if kind == Kind.BEGIN and channel.peer.role == "model-owner":
            channel.close()
            raise ServiceError("this process is gone")
        real(channel, kind, *parts)

    real = Channel.send
    monkeypatch.setattr(Channel, "send", always)
    errors: list[PrimiaError] = []
    with pytest.raises(ServiceError, match="gone"):
        list(
            classify_all(
                parties.session, lambda _: images(1)[0], [0], batch=1, on_error=errors.append
            )
        )
    assert len(errors) == 2  # three attempts


def test_a_block_is_dealt_once(parties: Parties) -> None:
    session = parties.session(2)
    line = session._supply._channel
    session.fetch_ahead()
    session._supply._thread.join(10)
    # Each side has said goodbye after its last block; a wish after that is not heard.
    with contextlib.suppress(ServiceError):
        line.send(Kind.WANT, (0).to_bytes(8, "big"))
    with pytest.raises(ServiceError):
        line.receive(Kind.PART, at_most=32)
    session.abandon()


def test_another_block_than_the_next_is_not_dealt(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Channel.send

    def skipping(channel: Channel, kind: int, *parts: Any) -> None:
        wrong = (1).to_bytes(8, "big")
        real(channel, kind, *((wrong,) if kind == Kind.WANT else parts))

    monkeypatch.setattr(Channel, "send", skipping)
    session = parties.session(1)
    with pytest.raises(ServiceError, match="asks for block 1; expected 0"):
        session.fetch_ahead()
    session.abandon()


def test_the_model_owner_uses_no_block_twice(parties: Parties) -> None:
    session = parties.session(2)
    session.fetch_ahead()
    session.classify(images(1))
    session._channel.send(Kind.BEGIN, (0).to_bytes(8, "big"))
    with pytest.raises(ServiceError, match="block 0 was used or burned"):
        session._channel.receive(Kind.BEGIN, at_most=0)
    session.abandon()


def test_who_says_nothing_after_the_welcome_is_told_to_go_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (model_owner, provider_module):
        monkeypatch.setattr(module, "FIRST_WORD_SECONDS", 0.3)
    with Parties(tmp_path).running() as parties:
        for role in ("model-owner", "crypto-provider"):
            line = parties.to(role)
            started = time.monotonic()
            with pytest.raises(ServiceError, match=r"keeps this party waiting"):
                line.receive(Kind.OFFER, at_most=1)
            assert time.monotonic() - started < 5
        with parties.session(1) as session:  # an honest one is not hurried
            assert session.classify(images(1)).scores is not None
