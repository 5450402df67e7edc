"""`primia infer`: a diagnosis of one's own images by a model that never sees them."""

import csv
import io
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from primia_flwr.cli.verb import Verb
from primia_flwr.config.inference import InferArguments, settings_of
from primia_flwr.errors import ConfigError, DataError, PrimiaError, ServiceError

if TYPE_CHECKING:
    from torch import Tensor

    from primia_flwr.crypto.channel import Channel
    from primia_flwr.crypto.classify import AnySession, Opinion
    from primia_flwr.data.unlabelled import Unlabelled

OUTSIDE = "outside"  # the audit's word for an image without scores


def run(cfg: InferArguments) -> dict[str, Any]:
    """Have the images classified; write predictions.csv and predictions.json.

    Raises
    ------
    PrimiaError
        If a party cannot be reached or fails again and again, or no image can be read.
    """
    from primia_flwr.data.unlabelled import find_images

    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    root, files = find_images(cfg.data.root)
    output = _output(cfg)
    with Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=cfg.quiet,
    ) as progress:
        work = _Work(cfg, progress, root, files)
        try:
            work.classify()
        except PrimiaError as error:
            raise _stopped(error, work, output) from None
        except KeyboardInterrupt:
            if work.rows():
                _write(output, work)
                console.print(f"what is done is in {output}", markup=False, soft_wrap=True)
            raise
    _write(output, work)
    facts = work.facts()
    for name, why in work.skipped.items():
        console.print(f"skipped {name}: {why}", markup=False, soft_wrap=True)
    for row in work.rows():
        if row["audit"] == OUTSIDE:
            console.print(_outside(row["file"], facts), markup=False, soft_wrap=True)
    summary = ("images", "seconds_per_image", "bytes_sent", "rounds")
    return {
        **{key: facts[key] for key in summary},
        "skipped": len(work.skipped),
        "outside": facts["outside"],
        "output": str(output),
    }


class _Work:
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
        self._sessions: list[AnySession] = []
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
        self._progress.update(self._fetched, total=batches, completed=0)
        to_server = connect(server, credentials, expect="model-owner", timeout=cfg.timeout)

        def to_provider() -> "Channel":
            return connect(provider, credentials, expect="crypto-provider", timeout=cfg.patience)

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
                on_fetched=lambda n: self._progress.update(self._fetched, completed=n),
            )
        self._card = session.card
        self.classes = session.card.classes
        self._sessions.append(session)
        self._session = session
        return session

    def _load(self, index: int) -> Any:
        from dataclasses import replace

        from primia_flwr.training.normalisation import Normalisation

        card = self._card
        prepared = replace(
            self._images, size=card.image_size, mode=card.resize, channels=card.channels
        )
        pixels = prepared.load(self._images.files[index])
        return Normalisation(card.mean, card.std).apply(pixels[None])[0]

    def _row(self, name: str, opinion: "Opinion") -> dict[str, Any]:
        audit = "passed" if self._cfg.audit else "off"
        return {
            "file": name,
            **_finding(self.classes, opinion.scores),
            "audit": OUTSIDE if opinion.scores is None else audit,
            "seconds": round(opinion.seconds, 4),
            "bytes_sent": opinion.bytes_sent,
            "bytes_received": opinion.bytes_received,
        }

    def _warn(self, error: PrimiaError) -> None:
        self._progress.console.print(
            f"{error}; the batch is tried again with fresh randomness", markup=False, soft_wrap=True
        )

    def facts(self) -> dict[str, Any]:
        """Return what it took."""
        count = len(self._opinions)
        return {
            "images": count,
            "complete": count == self.count,
            "skipped": self.skipped,
            "audit": self._cfg.audit,
            "outside": sum(o.scores is None for o in self._opinions),
            "seconds_per_image": round(sum(o.seconds for o in self._opinions) / count, 4),
            "bytes_sent": sum(o.bytes_sent for o in self._opinions),
            "bytes_received": sum(o.bytes_received for o in self._opinions),
            "bytes_preprocessing": sum(session.bytes_dealt for session in self._sessions),
            "rounds": self._session.rounds,
            "seconds_in_all": round(time.monotonic() - self._started, 2),
            "sessions": [
                {"set_up_seconds": session.set_up_seconds, "set_up_bytes": session.set_up_bytes}
                for session in self._sessions
            ],
            "classes": list(self.classes),
            "model": {
                "sha256": self._session.offer.model,
                "round": self._card.round,
                "synthetic": self._card.synthetic,
                "calibrated": self._session.offer.calibrated,
                "compare_bits": self._session.offer.compare_bits,
            },
        }


def _finding(classes: Sequence[str], scores: "Tensor | None") -> dict[str, Any]:
    """Return the columns that tell of a class; all empty where there are no scores."""
    if scores is None:
        return {"prediction": None, **dict.fromkeys(f"p_{c}" for c in classes), "scores": None}
    probabilities = scores.softmax(dim=0).tolist()
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return {
        "prediction": classes[best],
        **{f"p_{c}": p for c, p in zip(classes, probabilities, strict=True)},
        "scores": scores.tolist(),
    }


def _outside(name: str, facts: dict[str, Any]) -> str:
    return (
        f"no scores for {name}: the audit found a number of its batch outside the ring of "
        f"compare_bits={facts['model']['compare_bits']} (or the parties do not agree on what they "
        "computed); if it does so again, tell the model owner that its bounds are not enough"
    )


def _output(cfg: InferArguments) -> Path:
    """Return where the tables will go; the folder itself is made with them."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    output = Path(cfg.output or f"inference/{stamp}").expanduser().resolve()
    there = next(folder for folder in (output, *output.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(
            f"output={cfg.output or output}: {there} cannot be written; expected a folder in which "
            "a new one can be made"
        )
    if (output / "predictions.csv").exists():
        raise ConfigError(
            f"output={cfg.output} holds the predictions of another call; expected a new folder: "
            "nothing is overwritten"
        )
    return output


def _stopped(error: PrimiaError, work: _Work, output: Path) -> PrimiaError:
    """Keep what was classified before an error; return the error, with where that is."""
    done = len(work.rows())
    if not done:
        return error
    _write(output, work)
    return ServiceError(f"{error}; {done} of {work.count} images are done, see {output}")


def _write(output: Path, work: _Work) -> None:
    """Write the tables whole or not at all, for their owner's eyes only.

    Raises
    ------
    DataError
        If they cannot be written, e.g. a full disk.
    """
    rows, facts = work.rows(), work.facts()
    text = io.StringIO(newline="")
    columns = [name for name in rows[0] if name != "scores"]
    writer = csv.DictWriter(text, fieldnames=columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    values = json.dumps({**facts, "predictions": rows}, indent=1) + "\n"
    try:
        output.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in (("predictions.csv", text.getvalue()), ("predictions.json", values)):
            partial = output / f".{name}.{os.getpid()}"
            partial.touch(mode=0o600)
            partial.write_text(content, encoding="utf-8", newline="")
            partial.replace(output / name)
    except OSError as error:
        raise DataError(
            f"{output} cannot be written ({error.strerror}); expected a folder with free space; "
            "give another one as output=<folder>"
        ) from None


VERB = Verb(
    words=("infer",),
    summary="have your images classified without showing them, by a model that you do not see",
    examples=(
        "primia infer server=diagnosis.example.org:9700 data.root=today kit=kit-clinic-a",
        "primia infer data.root=today/thorax.dcm kit=kit-clinic-a output=results",
        "primia infer data.root=today kit=kit-clinic-a prefetch=50 batch=4",
        "primia infer data.root=today kit=kit-clinic-a audit=true",
    ),
    config_name="inference/infer",
    schema=InferArguments,
    run=run,
    positional="server",
)
