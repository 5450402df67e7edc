"""The images of one `primia infer`: read once, classified, and what is said of each."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from primia_flwr.cli.inference.findings import finding, no_scores, not_plausible
from primia_flwr.cli.inference.predictions import write_tables
from primia_flwr.cli.inference.resumed import Kept
from primia_flwr.cli.inference.sessions import Sessions
from primia_flwr.config.inference import InferArguments
from primia_flwr.data.files.listing import file_digest
from primia_flwr.errors import DataError, PrimiaError

if TYPE_CHECKING:
    from primia_flwr.data.files.unlabelled import Unlabelled
    from primia_flwr.inference.service.classify import AnySession, Opinion

AUDIT_PACE = 0.5  # seconds; the tables and the sentence of an image are long written by then
_AUDITED_SAVE_SECONDS = 30.0


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
    """One call of the command: its images, its sessions, its progress.

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
        self._cfg, self._progress = cfg, progress
        self._kept = kept or Kept(Path())
        self._sessions = Sessions(cfg, self._kept, on_fetched=self._show_fetched, say=self.say)
        self._fetched = progress.add_task("randomness fetched", total=None)
        self._done = progress.add_task("images", total=len(files))
        self._images, self.skipped = self._readable(root, files)
        self._rows = list(self._kept.rows)
        self._digests: dict[int, str] = {}
        self._saved, self._saving = time.monotonic(), 0.0

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
        self._progress.update(self._fetched, total=batches or None, completed=0)
        return self._sessions.open(batches)

    def _show_fetched(self, count: int) -> None:
        self._progress.update(self._fetched, completed=count)

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
        from primia_flwr.training.normalisation import Normalisation

        card = self._sessions.card
        prepared = replace(
            self._images, size=card.image_size, mode=card.resize, channels=card.channels,
            frames=card.frames,
        )  # fmt: skip
        pixels = prepared.load(file)
        return Normalisation(card.mean, card.std).apply(pixels[None])[0]

    def _row(self, name: str, opinion: "Opinion") -> dict[str, Any]:
        from primia_flwr.inference.protocol.plausibility import Verdict

        audit = "passed" if self._cfg.audit else "off"
        outside = opinion.verdict == Verdict.OUTSIDE
        return {
            "file": name,
            **finding(self._sessions.card, opinion.scores),
            "plausible": opinion.verdict == Verdict.PLAUSIBLE,
            "audit": opinion.verdict.value if outside else audit,
            "calibrated": self._sessions.calibrated,
            "seconds": round(opinion.seconds, 4),
            "bytes_sent": opinion.bytes_sent,
            "bytes_received": opinion.bytes_received,
        }

    def why_none(self, row: dict[str, Any]) -> str:
        """Return why an image has no diagnosis; empty if it has."""
        session = self._sessions.last
        if row["plausible"] or session is None:
            return ""
        offer = session.offer
        if row["audit"] == "outside":
            return no_scores(row["file"], offer.compare_bits)
        return not_plausible(row["file"], offer.score_limit)

    def _warn(self, error: PrimiaError) -> None:
        self.say(f"{error}; the batch is tried again with fresh randomness")

    def say(self, sentence: str) -> None:
        """Tell the user."""
        self._progress.console.print(sentence, markup=False, soft_wrap=True)

    def facts(self) -> dict[str, Any]:
        """Return what it took, with an interrupted call before; only after a session was opened."""
        rows = self.rows()
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
        sessions = self._sessions.facts()
        return {**facts, **sessions} if sessions else {**(self._kept.facts or {}), **facts}
