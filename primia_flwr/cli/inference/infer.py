"""`primia infer`: a diagnosis of one's own images by a model that never sees them."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from primia_flwr.cli.command import Command
from primia_flwr.cli.inference.findings import basis, finding, no_scores, not_plausible, summary
from primia_flwr.cli.inference.predictions import output_folder, write_tables
from primia_flwr.cli.inference.resumed import Kept, read_kept
from primia_flwr.config.inference import InferArguments, check_installed, settings_of
from primia_flwr.data.files.listing import file_digest
from primia_flwr.errors import DataError, PrimiaError, ServiceError

if TYPE_CHECKING:
    from primia_flwr.data.files.unlabelled import Unlabelled
    from primia_flwr.inference.service.classify import AnySession, Opinion
    from primia_flwr.inference.transport.channel import Channel

AUDIT_PACE = 0.5  # seconds; the tables and the sentence of an image are long written by then
_AUDITED_SAVE_SECONDS = 30.0


def run(cfg: InferArguments) -> dict[str, Any]:
    """Have the images classified; write predictions.csv and predictions.json.

    With `watch=true` those that come, until it is stopped.

    Raises
    ------
    PrimiaError
        If a party cannot be reached or fails again and again, or no image can be read.
    """
    check_installed(cfg.protocol)
    from primia_flwr.data.files.unlabelled import find_images

    if cfg.watch:
        from primia_flwr.cli.inference.watch import watch

        return watch(cfg)
    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    root, files = find_images(cfg.data.root)
    kept = _kept(cfg)
    output = kept.folder
    with bars(console, quiet=cfg.quiet) as progress:
        work = Work(cfg, progress, root, kept.left(files, root), kept)
        try:
            for _ in work.classify():
                work.save_in_time(output)
        except PrimiaError as error:
            raise _stopped(error, work, output) from None
        except KeyboardInterrupt:
            if work.rows():
                write_tables(output, work.rows(), work.facts())
                sentence = f"what is done is in {output}; resume={output} goes on with the rest"
                console.print(sentence, markup=False, soft_wrap=True)
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
    """One call of the command: its sessions, its progress, what they took.

    Parameters
    ----------
    cfg : InferArguments
        What the user wants.
    progress : Progress
        Where it is shown.
    root, files : Path, sequence of Path
        The images to classify, below `root`.
    kept : Kept, optional
        What an interrupted call has done.
    """

    def __init__(
        self,
        cfg: InferArguments,
        progress: Progress,
        root: Path,
        files: Sequence[Path],
        kept: Kept | None = None,
    ) -> None:
        from primia_flwr.cli.inference.service import device_of, kit_of
        from primia_flwr.inference.protocol.session import Settings

        self._cfg, self._progress = cfg, progress
        self._kept = kept or Kept(Path())
        self._credentials = kit_of(cfg.kit, "data-owner")
        if ends := self._credentials.expiry():
            progress.console.print(ends, markup=False, soft_wrap=True)
        self._settings = Settings(**settings_of(cfg), device=device_of(cfg.device))
        self._fetched = progress.add_task("randomness fetched", total=None)
        self._done = progress.add_task("images", total=len(files))
        self._images, self.skipped = self._readable(root, files)
        self._rows = list(self._kept.rows)
        self._digests: dict[int, str] = {}
        self._saved, self._saving = time.monotonic(), 0.0
        self._session: AnySession | None = None
        self._past: list[dict[str, float]] = []
        self._started = time.monotonic()
        self.classes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images can be read, or have been classified."""
        return len(self._kept.rows) + len(self._images.files)

    def classify(self) -> Iterator[None]:
        """Have every readable image classified; yields after each."""
        from primia_flwr.inference.service.classify import classify_all

        for opinion in classify_all(
            self._open,
            self._load,
            range(len(self._images.files)),
            batch=self._cfg.batch,
            on_error=self._warn,
        ):
            name = self._images.name(self._images.files[opinion.index])
            row = {**self._row(name, opinion), "sha256": self._digests.pop(opinion.index)}
            self._rows.append(row)
            self._progress.advance(self._done)
            yield

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each image that was classified."""
        return self._rows

    def save_in_time(self, output: Path) -> None:
        """Write the tables from time to time, so that a call that is killed can go on.

        It takes at most a tenth of the time. With an audit it is rare, and what comes next waits
        for a multiple of `AUDIT_PACE`: when this party speaks again must not tell what was found.
        """
        started = time.monotonic()
        every = _AUDITED_SAVE_SECONDS if self._cfg.audit else 9 * self._saving
        if started - self._saved < every:
            return
        write_tables(output, self.rows(), self.facts())
        self._saved = time.monotonic()
        self._saving = self._saved - started
        if self._cfg.audit:
            time.sleep(AUDIT_PACE - self._saving % AUDIT_PACE)

    def _readable(self, root: Path, files: Sequence[Path]) -> tuple["Unlabelled", dict[str, str]]:
        """Decode every image once before anybody is asked: a bad file costs no randomness."""
        from primia_flwr.data.files.unlabelled import Unlabelled

        probe = Unlabelled(tuple(files), root, 16, "squash", 1)
        skipped = {}
        for file in files:
            try:
                probe.load(file)
            except DataError as error:
                skipped[probe.name(file)] = str(error)
        good = tuple(file for file in files if probe.name(file) not in skipped)
        if not good and not self._kept.rows:
            raise DataError(
                f"data.root={self._cfg.data.root}: none of {len(files)} files is a readable image; "
                f"the first: {next(iter(skipped.values()))}"
            )
        kept = len(self._kept.rows)
        self._progress.update(self._done, total=kept + len(good), completed=kept)
        return Unlabelled(good, root, 0, "", 0), skipped

    def _open(self, batches: int) -> "AnySession":
        from primia_flwr.inference.service.crypten_batches import StockSession
        from primia_flwr.inference.service.data_owner import Session
        from primia_flwr.inference.transport.connect import connect

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

    def _load(self, index: int) -> Any:
        file = self._images.files[index]
        self._digests[index] = file_digest(file)
        return self.load(file)

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
        from primia_flwr.inference.protocol.plausibility import Verdict

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
        """Return what it took, with an interrupted call before; only after a session was opened."""
        rows, session, kept = self.rows(), self._session, dict(self._kept.facts or {})
        if session is None and not kept:
            raise ServiceError("no session was opened; expected one")
        count = len(rows)
        outside = sum(row["audit"] == "outside" for row in rows)
        facts = {
            "images": count,
            "complete": count == self.count,
            "skipped": self.skipped,
            "audit": self._cfg.audit,
            "outside": outside,
            "implausible": sum(not row["plausible"] for row in rows) - outside,
            "seconds_per_image": round(sum(row["seconds"] for row in rows) / max(count, 1), 4),
            "bytes_sent": sum(row["bytes_sent"] for row in rows),
            "bytes_received": sum(row["bytes_received"] for row in rows),
        }
        if session is None:
            return {**kept, **facts}
        sessions = [*self._past, _costs(session)]
        dealt = sum(costs["bytes_dealt"] for costs in sessions)
        seconds = time.monotonic() - self._started
        return {
            **facts,
            "bytes_preprocessing": kept.get("bytes_preprocessing", 0) + dealt,
            "rounds": session.rounds,
            "seconds_in_all": round(kept.get("seconds_in_all", 0) + seconds, 2),
            "sessions": [
                *kept.get("sessions", ()),
                *(
                    {name: costs[name] for name in ("set_up_seconds", "set_up_bytes")}
                    for costs in sessions
                ),
            ],
            "classes": list(self.classes),
            "basis": basis(self._calibrated, audit=self._cfg.audit),
            "model": _model(session, self._cfg.protocol),
        }

    @property
    def _calibrated(self) -> int:
        """On how many images the model was compared with itself in the clear, for this protocol."""
        return _calibrated(self._session, self._cfg.protocol) if self._session else 0


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


def _kept(cfg: InferArguments) -> Kept:
    """Return where the tables go, and what an interrupted call has left there."""
    if not cfg.resume:
        return Kept(output_folder(cfg.output))
    return read_kept(Path(cfg.resume).expanduser().resolve(), audit=cfg.audit)


def _stopped(error: PrimiaError, work: Work, output: Path) -> PrimiaError:
    """Keep what was classified before an error; return the error, with where that is."""
    done = len(work.rows())
    if not done:
        return error
    write_tables(output, work.rows(), work.facts())
    return ServiceError(
        f"{error}; {done} of {work.count} images are done, see {output}; resume={output} goes on "
        "with the rest"
    )


COMMAND = Command(
    words=("infer",),
    summary="have your images classified without showing them, by a model that you do not see",
    examples=(
        "primia infer server=diagnosis.example.org:9700 data.root=today kit=kit-clinic-a",
        "primia infer data.root=today/thorax.dcm kit=kit-clinic-a output=results",
        "primia infer data.root=today kit=kit-clinic-a prefetch=50 batch=4",
        "primia infer data.root=today kit=kit-clinic-a audit=true",
        "primia infer data.root=today kit=kit-clinic-a resume=results  # after an interruption",
        "primia infer data.root=inbox kit=kit-clinic-a watch=true prefetch=200",
        "primia infer data.root=inbox watch=true watch_new_only=true idle_stop=3600",
    ),
    config_name="inference/infer",
    schema=InferArguments,
    run=run,
    positional="server",
)
