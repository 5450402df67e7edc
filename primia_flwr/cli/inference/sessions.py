"""The sessions of one `primia infer`: one after another, all of them with one model."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from primia_flwr.cli.inference.findings import basis
from primia_flwr.cli.inference.resumed import Kept
from primia_flwr.config.inference import InferArguments, settings_of
from primia_flwr.errors import DataError, ServiceError

if TYPE_CHECKING:
    from primia_flwr.inference.service.classify import AnySession
    from primia_flwr.inference.transport.channel import Channel
    from primia_flwr.models.card import ModelCard


class Sessions:
    """Opens sessions, sees to it that all are with one model, and counts what they took.

    Parameters
    ----------
    cfg : InferArguments
        What the user wants.
    kept : Kept
        What an interrupted call has done, whose model must be theirs, too.
    on_fetched : callable
        Told of how many batches the randomness is there.
    say : callable
        Tells the user a sentence.
    """

    def __init__(
        self,
        cfg: InferArguments,
        kept: Kept,
        *,
        on_fetched: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        from primia_flwr.cli.inference.service import device_of, kit_of
        from primia_flwr.inference.protocol.session import Settings

        self._cfg, self._kept, self._on_fetched = cfg, kept, on_fetched
        self._credentials = kit_of(cfg.kit, "data-owner")
        if ends := self._credentials.expiry():
            say(ends)
        self._settings = Settings(**settings_of(cfg), device=device_of(cfg.device))
        self._past: list[dict[str, float]] = []
        self._started = 0.0
        self.last: AnySession | None = None

    @property
    def card(self) -> "ModelCard":
        """The model's, once a session was opened."""
        return self._opened().card

    @property
    def calibrated(self) -> int:
        """On how many images the model was compared with itself in the clear, for this protocol."""
        return _calibrated(self.last, self._cfg.protocol) if self.last else 0

    def open(self, batches: int) -> "AnySession":
        """Open a session.

        Raises
        ------
        DataError
            If it is with another model than those before.
        """
        self._started = self._started or time.monotonic()
        session = self._connected(batches)
        self._check_model(session)
        if self.last is not None:
            self._past.append(_costs(self.last))
        self.last = session
        return session

    def facts(self) -> dict[str, Any]:
        """Return what they took, with an interrupted call before; of that alone without any.

        Raises
        ------
        ServiceError
            If there is neither a session nor an interrupted call.
        """
        kept = dict(self._kept.facts or {})
        if self.last is None and kept:
            return {}
        session = self._opened()
        sessions = [*self._past, _costs(session)]
        dealt = sum(costs["bytes_dealt"] for costs in sessions)
        seconds = time.monotonic() - self._started
        set_ups = [
            {name: costs[name] for name in ("set_up_seconds", "set_up_bytes")} for costs in sessions
        ]
        return {
            "bytes_preprocessing": kept.get("bytes_preprocessing", 0) + dealt,
            "rounds": session.rounds,
            "seconds_in_all": round(kept.get("seconds_in_all", 0) + seconds, 2),
            "sessions": [*kept.get("sessions", ()), *set_ups],
            "classes": list(session.card.classes),
            "basis": basis(self.calibrated, audit=self._cfg.audit),
            "model": _model(session, self._cfg.protocol),
        }

    def _opened(self) -> "AnySession":
        if self.last is None:
            raise ServiceError("no session was opened; expected one")
        return self.last

    def _connected(self, batches: int) -> "AnySession":
        from primia_flwr.inference.service.crypten_batches import StockSession
        from primia_flwr.inference.service.data_owner import Session
        from primia_flwr.inference.transport.connect import connect

        cfg, credentials = self._cfg, self._credentials
        server = cfg.server or credentials.address_of("model-owner")
        provider = cfg.provider or credentials.address_of("crypto-provider")
        to_server = connect(server, credentials, expect="model-owner", timeout=cfg.timeout)

        def to_provider() -> "Channel":
            channel = connect(provider, credentials, expect="crypto-provider", timeout=cfg.timeout)
            channel.timeout = cfg.patience
            return channel

        own, settings = credentials.own.fingerprint, self._settings
        if cfg.protocol == "crypten":
            return StockSession(
                to_server, to_provider, own_fingerprint=own, batch=cfg.batch, settings=settings
            )
        return Session(
            to_server,
            to_provider,
            own_fingerprint=own,
            batch=cfg.batch,
            batches=batches,
            settings=settings,
            on_fetched=self._on_fetched,
        )

    def _check_model(self, session: "AnySession") -> None:
        """See to it that one table has the opinions of one model."""
        before = self.last
        try:
            self._kept.check_model(_model(session, self._cfg.protocol), session.card.classes)
            if before is not None and _identity(before) != _identity(session):
                raise DataError(
                    "the model owner serves another model now "
                    f"({session.offer.model:.16}…, calibrated on {session.offer.calibrated} "
                    f"images); expected that of the predictions so far ({before.offer.model:.16}…, "
                    f"{before.offer.calibrated}): call again, with another output folder"
                )
        except DataError:
            session.abandon()
            raise


def _calibrated(session: "AnySession", protocol: str) -> int:
    return session.offer.calibrated if protocol == "fss" else 0


def _model(session: "AnySession", protocol: str) -> dict[str, Any]:
    """Return what the tables say of a model."""
    offer = session.offer
    return {
        "sha256": offer.model,
        "round": session.card.round,
        "synthetic": session.card.synthetic,
        "calibrated": _calibrated(session, protocol),
        "compare_bits": offer.compare_bits,
        "score_limit": offer.score_limit,
    }


def _identity(session: "AnySession") -> tuple[Any, ...]:
    """Return what must be the same for all results of one table."""
    offer = session.offer
    return offer.model, session.card, offer.calibrated, offer.score_limit


def _costs(session: "AnySession") -> dict[str, float]:
    """Return what is kept of a session that is over: not its weights."""
    names = ("set_up_seconds", "set_up_bytes", "bytes_dealt")
    return {name: getattr(session, name) for name in names}
