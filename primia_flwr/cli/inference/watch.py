"""`primia infer … watch=true`: a clinic's workstation, which classifies images as they come."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from primia_flwr.cli.inference.findings import summary
from primia_flwr.cli.inference.predictions import output_folder, write_tables
from primia_flwr.cli.inference.work import AUDIT_PACE, Work, bars
from primia_flwr.cli.stopping import Stopping
from primia_flwr.config.inference import InferArguments
from primia_flwr.errors import ConfigError, DataError, PrimiaError, ServiceError

if TYPE_CHECKING:
    from primia_flwr.data.files.arrivals import Arrival
    from primia_flwr.data.files.unlabelled import Unlabelled
    from primia_flwr.inference.service.data_owner import Session
    from primia_flwr.inference.service.negotiation import Answer
    from primia_flwr.inference.service.watch import Watcher

_AGAIN_SECONDS = 5.0  # before tables that could not be written are tried again


def watch(cfg: InferArguments) -> dict[str, Any]:
    """Classify images as they come; the tables are written after each one.

    Raises
    ------
    PrimiaError
        If the first session cannot be opened, a later one is with another model, or the tables
        cannot be written at the end.
    """
    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    if not cfg.data.root:
        raise ConfigError(
            "data.root is empty; expected the folder into which the images come, e.g. "
            "data.root=inbox"
        )
    root = Path(cfg.data.root).expanduser().resolve()
    output = output_folder(cfg.output)
    with Stopping() as stopping, bars(console, quiet=cfg.quiet) as progress:
        book = _Book(cfg, progress, root, output)
        watcher = _watcher(cfg, root, book, stopping)
        book.refresh = lambda: book.show(watcher)
        try:
            watcher.run()
        except KeyboardInterrupt:
            if not book.began:
                raise
        except PrimiaError as error:
            if not book.began:
                raise
            book.close(watcher.pending)
            raise _with_place(error, book, output) from None
        book.close(watcher.pending)
    return {**book.summary(), "output": str(output)}


class _Book(Work):
    """The results of a watch, and its sessions.

    Parameters
    ----------
    cfg, progress
        As `Work`.
    root : Path
        The folder that is watched.
    output : Path
        Where the tables go.
    """

    def __init__(self, cfg: InferArguments, progress: Progress, root: Path, output: Path) -> None:
        super().__init__(cfg, progress, root, ())
        self._root, self._output = root, output
        self._pending: Sequence[Path] = ()
        self._unsaved = False
        self._not_before = 0.0
        self.refresh: Callable[[], None] = lambda: None

    @property
    def began(self) -> bool:
        """Whether a session was opened."""
        return self._sessions.last is not None

    def open(self) -> "Session":
        """Open a session that lasts until a party ends it."""
        from primia_flwr.inference.service.data_owner import Session
        from primia_flwr.inference.transport.messages import OPEN_ENDED

        is_first = self._sessions.last is None
        session = self._open(OPEN_ENDED)
        if not isinstance(session, Session):
            raise ServiceError("a session of another protocol; expected protocol=fss")
        self._progress.update(self._fetched, total=session.most_waiting, completed=0)
        self._unsaved = True  # the tables say how many sessions there were
        if is_first:
            self.say(f"watching {self._root}; results go to {self._output}; Ctrl-C ends it")
            self.say(self.facts()["basis"])
        return session

    def add(self, arrival: "Arrival", answer: "Answer") -> None:
        """Take the answer for one image, scores (1, classes), or none after an audit."""
        from primia_flwr.inference.service.classify import opinion_of

        opinion = opinion_of(answer, 0, index=len(self._rows))
        name = self._images.name(arrival.path)
        self.skipped.pop(name, None)
        self._rows.append(
            {
                **self._row(name, opinion),
                "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "waited": round(time.monotonic() - arrival.time, 3),
            }
        )
        self._unsaved = True
        self._progress.advance(self._done)
        if why := self.why_none(self._rows[-1]):
            self.say(why)
        self.save()

    def skip(self, arrival: "Arrival", why: str) -> None:
        """Take note of an image that is not classified, and name it."""
        name = self._images.name(arrival.path)
        self.skipped[name] = why
        self._unsaved = True
        self.say(f"skipped {name}: {why}")

    def save(self) -> bool:
        """See to it that all of this is on disk; False: not now, ask again later."""
        self.refresh()
        if self._unsaved and time.monotonic() >= self._not_before:
            try:
                self._write()
            except DataError as error:
                if not self._not_before:
                    self.say(f"{error}; nothing is classified until it can be written")
                self._not_before = time.monotonic() + _AGAIN_SECONDS
            else:
                self._unsaved, self._not_before = False, 0.0
        return not self._unsaved

    def close(self, pending: Sequence[Path]) -> None:
        """Write the tables a last time, with what is left.

        Raises
        ------
        DataError
            If they cannot be written; it names the files whose results are lost.
        """
        self._pending = pending
        try:
            self._write()
        except DataError as error:
            if not self._unsaved:
                raise
            raise DataError(
                f"{error}; the tables there lack what came last; {len(self._rows)} images were "
                f"classified, the last of them {self._rows[-1]['file'] if self._rows else 'none'}"
            ) from None

    @property
    def count(self) -> int:
        """How many images can be read, as far as is known."""
        return len(self._rows) + len(self._pending)

    def facts(self) -> dict[str, Any]:
        """Return what it took, and which images were not done when it ended."""
        names = [self._images.name(path) for path in self._pending]
        return {**super().facts(), "watched": True, "pending": names}

    def summary(self) -> dict[str, Any]:
        """Return the last line of output; `ok` if no image was left waiting or is without."""
        facts = self.facts()
        told = summary(facts)
        return {
            **told,
            "pending": len(self._pending),
            "sessions": len(facts["sessions"]),
            "ok": told["ok"] and not self._pending,
        }

    def show(self, watcher: "Watcher") -> None:
        """Show how much randomness waits, and how many images are done and came."""
        self._progress.update(self._fetched, completed=watcher.waiting)
        came = len(self._rows) + len(watcher.pending)
        self._progress.update(self._done, total=came, completed=len(self._rows))

    def _show_fetched(self, count: int) -> None:
        """Show nothing here: what counts is how much of it waits."""

    def _write(self) -> None:
        write_tables(self._output, self.rows(), self.facts())

    def _readable(self, root: Path, files: Sequence[Path]) -> tuple["Unlabelled", dict[str, str]]:
        from primia_flwr.data.files.unlabelled import Unlabelled

        return Unlabelled((), root, 0, "", 0), {}


def _watcher(cfg: InferArguments, root: Path, book: _Book, stopping: Stopping) -> "Watcher":
    from primia_flwr.data.files.arrivals import Arrivals
    from primia_flwr.inference.service.watch import Limits, Watcher

    return Watcher(
        book.open,
        Arrivals(root, settle=cfg.watch_settle, new_only=cfg.watch_new_only),
        book.load,
        book,
        limits=Limits(cfg.watch_seconds, cfg.idle_stop),
        say=book.say,
        breaks=stopping.breaks,
        pace=AUDIT_PACE if cfg.audit else 0.0,
    )


def _with_place(error: PrimiaError, book: _Book, output: Path) -> PrimiaError:
    done = len(book.rows())
    return ServiceError(f"{error}; {done} images are done, see {output}") if done else error
