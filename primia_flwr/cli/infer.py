"""`primia infer`: a diagnosis of one's own images by a model that never sees them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from primia_flwr.cli.findings import basis, finding, no_scores, not_plausible, summary
from primia_flwr.cli.predictions import output_folder, write_tables
from primia_flwr.cli.verb import Verb
from primia_flwr.config.inference import InferArguments, settings_of
from primia_flwr.errors import DataError, PrimiaError, ServiceError

if TYPE_CHECKING:
    from primia_flwr.crypto.channel import Channel
    from primia_flwr.crypto.classify import AnySession, Opinion
    from primia_flwr.crypto.plausibility import Verdict
    from primia_flwr.data.unlabelled import Unlabelled


def run(cfg: InferArguments) -> dict[str, Any]:
    """Have the images classified; write predictions.csv and predictions.json.

    With `watch=true` those that come, until it is stopped.

    Raises
    ------
    PrimiaError
        If a party cannot be reached or fails again and again, or no image can be read.
    """
    from primia_flwr.data.unlabelled import find_images

    if cfg.watch:
        from primia_flwr.cli.infer_watch import watch

        return watch(cfg)
    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    root, files = find_images(cfg.data.root)
    output = output_folder(cfg.output)
    with bars(console, quiet=cfg.quiet) as progress:
        work = Work(cfg, progress, root, files)
        try:
            work.classify()
        except PrimiaError as error:
            raise _stopped(error, work, output) from None
        except KeyboardInterrupt:
            if work.rows():
                write_tables(output, work.rows(), work.facts())
                console.print(f"what is done is in {output}", markup=False, soft_wrap=True)
            raise
    write_tables(output, work.rows(), work.facts())
    facts = work.facts()
    told = [f"skipped {name}: {why}" for name, why in work.skipped.items()]
    told += [reason for row in work.rows() if (reason := work.why_none(row))]
    for sentence in (*told, facts["basis"]):
        console.print(sentence, markup=False, soft_wrap=True)
    return {**summary(facts), "output": str(output)}


def bars(console: Console, *, quiet: bool) -> Progress:
    """Return what shows the randomness fetched and the images done."""
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=quiet,
    )


class Work:
    """One call of the command: its sessions, its progress, what they took."""

    def __init__(
        self, cfg: InferArguments, progress: Progress, root: Path, files: Sequence[Path]
    ) -> None:
        from primia_flwr.cli.service import device_of, kit_of
        from primia_flwr.crypto.session import Settings

        self._cfg, self._progress = cfg, progress
        self._credentials = kit_of(cfg.kit, "data-owner")
        self._settings = Settings(**settings_of(cfg), device=device_of(cfg.device))
        self._fetched = progress.add_task("randomness fetched", total=None)
        self._done = progress.add_task("images", total=len(files))
        self._images, self.skipped = self._readable(root, files)
        self._opinions: list[Opinion] = []
        self._session: AnySession | None = None
        self._past: list[dict[str, float]] = []
        self._started = time.monotonic()
        self.classes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images can be read."""
        return len(self._images.files)

    def classify(self) -> None:
        """Have every readable image classified."""
        from primia_flwr.crypto.classify import classify_all

        for opinion in classify_all(
            self._open,
            self._load,
            range(self.count),
            batch=self._cfg.batch,
            on_error=self._warn,
        ):
            self._opinions.append(opinion)
            self._progress.advance(self._done)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each image that was classified."""
        images = self._images
        return [self._row(images.name(images.files[o.index]), o) for o in self._opinions]

    def _readable(self, root: Path, files: Sequence[Path]) -> tuple["Unlabelled", dict[str, str]]:
        """Decode every image once before anybody is asked: a bad file costs no randomness."""
        from primia_flwr.data.unlabelled import Unlabelled

        probe = Unlabelled(tuple(files), root, 16, "squash", 1)
        skipped = {}
        for file in files:
            try:
                probe.load(file)
            except DataError as error:
                skipped[probe.name(file)] = str(error)
        good = tuple(file for file in files if probe.name(file) not in skipped)
        if not good:
            raise DataError(
                f"data.root={self._cfg.data.root}: none of {len(files)} files is a readable image; "
                f"the first: {next(iter(skipped.values()))}"
            )
        self._progress.update(self._done, total=len(good))
        return Unlabelled(good, root, 0, "", 0), skipped

    def _open(self, batches: int) -> "AnySession":
        from primia_flwr.crypto.connect import connect
        from primia_flwr.crypto.data_owner import Session
        from primia_flwr.crypto.stock import StockSession

        cfg, credentials = self._cfg, self._credentials
        server = cfg.server or credentials.address_of("model-owner")
        provider = cfg.provider or credentials.address_of("crypto-provider")
        self._progress.update(self._fetched, total=batches or None, completed=0)
        to_server = connect(server, credentials, expect="model-owner", timeout=cfg.timeout)

        def to_provider() -> "Channel":
            channel = connect(provider, credentials, expect="crypto-provider", timeout=cfg.timeout)
            channel.timeout = cfg.patience
            return channel

        own, settings = credentials.own.fingerprint, self._settings
        session: Session | StockSession
        if cfg.protocol == "crypten":
            session = StockSession(
                to_server, to_provider, own_fingerprint=own, batch=cfg.batch, settings=settings
            )
        else:
            session = Session(
                to_server,
                to_provider,
                own_fingerprint=own,
                batch=cfg.batch,
                batches=batches,
                settings=settings,
                on_fetched=self._show_fetched,
            )
        self._check_model(session)
        if self._session is not None:
            self._past.append(_costs(self._session))
        self._card, self._session = session.card, session
        self.classes = session.card.classes
        return session

    def _show_fetched(self, count: int) -> None:
        self._progress.update(self._fetched, completed=count)

    def _check_model(self, session: "AnySession") -> None:
        """See to it that one table has the opinions of one model.

        Raises
        ------
        DataError
            If it is another one than in the session before; this one is closed.
        """
        before = self._session
        if before is None or _identity(before) == _identity(session):
            return
        session.abandon()
        raise DataError(
            f"the model owner serves another model now ({session.offer.model:.16}…, calibrated on "
            f"{session.offer.calibrated} images); expected that of the predictions so far "
            f"({before.offer.model:.16}…, {before.offer.calibrated}): call again, with another "
            "output folder"
        )

    def _load(self, index: int) -> Any:
        return self.load(self._images.files[index])

    def load(self, file: Path) -> Any:
        """Return a file's image as the model wants it, (C, H, W) float.

        Raises
        ------
        DataError
            If it cannot be decoded.
        """
        from dataclasses import replace

        from primia_flwr.training.normalisation import Normalisation

        card = self._card
        prepared = replace(
            self._images, size=card.image_size, mode=card.resize, channels=card.channels
        )
        pixels = prepared.load(file)
        return Normalisation(card.mean, card.std).apply(pixels[None])[0]

    def _row(self, name: str, opinion: "Opinion") -> dict[str, Any]:
        from primia_flwr.crypto.plausibility import Verdict

        audit = "passed" if self._cfg.audit else "off"
        outside = opinion.verdict == Verdict.OUTSIDE
        return {
            "file": name,
            **finding(self.classes, opinion.scores),
            "plausible": opinion.verdict == Verdict.PLAUSIBLE,
            "audit": opinion.verdict.value if outside else audit,
            "calibrated": self._calibrated,
            "seconds": round(opinion.seconds, 4),
            "bytes_sent": opinion.bytes_sent,
            "bytes_received": opinion.bytes_received,
        }

    def why_none(self, row: dict[str, Any]) -> str:
        """Return why an image has no diagnosis; empty if it has."""
        if row["plausible"] or self._session is None:
            return ""
        offer = self._session.offer
        if row["audit"] == "outside":
            return no_scores(row["file"], offer.compare_bits)
        return not_plausible(row["file"], offer.score_limit)

    def _warn(self, error: PrimiaError) -> None:
        self._progress.console.print(
            f"{error}; the batch is tried again with fresh randomness", markup=False, soft_wrap=True
        )

    def facts(self) -> dict[str, Any]:
        """Return what it took; only after a session was opened."""
        from primia_flwr.crypto.plausibility import Verdict

        count, session = len(self._opinions), self._session
        if session is None:
            raise ServiceError("no session was opened; expected one")
        sessions = [*self._past, _costs(session)]
        return {
            "images": count,
            "complete": count == self.count,
            "skipped": self.skipped,
            "audit": self._cfg.audit,
            "outside": self._count(Verdict.OUTSIDE),
            "implausible": self._count(Verdict.IMPLAUSIBLE),
            "seconds_per_image": round(sum(o.seconds for o in self._opinions) / max(count, 1), 4),
            "bytes_sent": sum(o.bytes_sent for o in self._opinions),
            "bytes_received": sum(o.bytes_received for o in self._opinions),
            "bytes_preprocessing": sum(costs["bytes_dealt"] for costs in sessions),
            "rounds": session.rounds,
            "seconds_in_all": round(time.monotonic() - self._started, 2),
            "sessions": [
                {name: costs[name] for name in ("set_up_seconds", "set_up_bytes")}
                for costs in sessions
            ],
            "classes": list(self.classes),
            "basis": basis(self._calibrated, audit=self._cfg.audit),
            "model": {
                "sha256": session.offer.model,
                "round": self._card.round,
                "synthetic": self._card.synthetic,
                "calibrated": self._calibrated,
                "compare_bits": session.offer.compare_bits,
                "score_limit": session.offer.score_limit,
            },
        }

    @property
    def _calibrated(self) -> int:
        """On how many images the model was compared with itself in the clear, for this protocol."""
        if self._session is None or self._cfg.protocol != "fss":
            return 0
        return self._session.offer.calibrated

    def _count(self, verdict: "Verdict") -> int:
        return sum(opinion.verdict == verdict for opinion in self._opinions)


def _identity(session: "AnySession") -> tuple[Any, ...]:
    """Return what must be the same for all results of one table."""
    offer = session.offer
    return offer.model, session.card, offer.calibrated, offer.score_limit


def _costs(session: "AnySession") -> dict[str, float]:
    """Return what is kept of a session that is over: not its weights."""
    names = ("set_up_seconds", "set_up_bytes", "bytes_dealt")
    return {name: getattr(session, name) for name in names}


def _stopped(error: PrimiaError, work: Work, output: Path) -> PrimiaError:
    """Keep what was classified before an error; return the error, with where that is."""
    done = len(work.rows())
    if not done:
        return error
    write_tables(output, work.rows(), work.facts())
    return ServiceError(f"{error}; {done} of {work.count} images are done, see {output}")


VERB = Verb(
    words=("infer",),
    summary="have your images classified without showing them, by a model that you do not see",
    examples=(
        "primia infer server=diagnosis.example.org:9700 data.root=today kit=kit-clinic-a",
        "primia infer data.root=today/thorax.dcm kit=kit-clinic-a output=results",
        "primia infer data.root=today kit=kit-clinic-a prefetch=50 batch=4",
        "primia infer data.root=today kit=kit-clinic-a audit=true",
        "primia infer data.root=inbox kit=kit-clinic-a watch=true prefetch=200",
        "primia infer data.root=inbox watch=true watch_new_only=true idle_stop=3600",
    ),
    config_name="inference/infer",
    schema=InferArguments,
    run=run,
    positional="server",
)
