"""What a site has answered, remembered for good, so that nobody can subtract two sums.

A server that learned the sum over {A, B, C} for a model could claim a crash and ask again for
{A, B}: training is deterministic, and the difference is C's update. A site therefore answers
one base, which is a model or a round of a run, for one survivor list only. The round counts on
its own because a model that differs in its last bit has another digest and the same gradients.

A later round, or another run, of a model that hardly differs serves as well. So all lists that a
site answers under one roster go together: see `member_lists`.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.state.member_lists import shown
from primia_flwr.storage.atomic import PRIVATE, write_atomic, writing
from primia_flwr.storage.journal import JournalFile

_HEAD_SUFFIX = ".head"


@dataclass(frozen=True)
class MemberRule:
    """Which lists a site answers besides one another.

    Parameters
    ----------
    roster : str
        Digest of all sites of the federation, by which a new roster begins anew.
    least : int
        Sites among which each must stay hidden.
    since : str
        Lists answered before this day (ISO, e.g. 2026-11-29) are not counted; empty: all are.
    """

    roster: str
    least: int
    since: str = ""


class Journal:
    """Bases, and the survivor list that the site helped to unmask for each.

    Parameters
    ----------
    path : Path
        JSON lines, appended to; nothing secret is in it. Beside it a file knows how many there
        are, so that lines which are missing are missed. None: in memory, for one process.
    allow_other_list : bool
        The site's policy lets it answer other lists for the same base, and any lists besides
        each other.
    rule : MemberRule, optional
        None: lists for different bases have nothing to do with each other, e.g. where each
        update has noise of its own.
    """

    def __init__(
        self, path: Path | None, *, allow_other_list: bool = False, rule: MemberRule | None = None
    ) -> None:
        self._path = path
        self._allow, self._rule = allow_other_list, rule
        self._answered: dict[str, list[list[str]]] = {}
        self._lists: list[list[str]] = []
        self._count = 0  # lines of the file
        if path is not None:
            self._read(path)

    def check(self, bases: Sequence[bytes], survivors: Collection[str]) -> None:
        """Refuse a list that differs from one that was answered for one of the bases.

        Refuse one, too, from which together with those answered before few sites could be told.

        Raises
        ------
        ProtocolError
            Naming both lists, or the sites that could be told.
        """
        if not self._allow:
            self._check_bases(bases, survivors)
            self._check_lists(survivors)

    def _check_bases(self, bases: Sequence[bytes], survivors: Collection[str]) -> None:
        for base in bases:
            known = self._answered.get(base.hex(), [])
            if known and sorted(survivors) not in known:
                raise ProtocolError(
                    f"the sum over {', '.join(sorted(survivors))} is asked for a model or a round "
                    f"for which the sum over {', '.join(known[0])} was given; expected the same "
                    "sites, because the difference of two sums shows single sites; start another "
                    "run from another model (seed), or allow it in this site's policy"
                )

    def _check_lists(self, survivors: Collection[str]) -> None:
        rule = self._rule
        followed = rule and shown(survivors, self._lists, least=rule.least)
        if rule and followed:
            raise ProtocolError(
                f"the sum over {', '.join(sorted(survivors))} is asked, after sums over other "
                f"sites under the same roster: {', '.join(sorted(followed))} could follow from "
                f"their differences; expected the sites of the first sum, "
                f"{', '.join(self._lists[0])}, or whole batches of {rule.least} of them by name; "
                "wait for who is missing, or set member_lists_since in this site's policy"
            )

    def record(self, bases: Sequence[bytes], survivors: Collection[str]) -> None:
        """Check, and store durably before the shares leave.

        Raises
        ------
        ProtocolError
            As `check`, or if it cannot be stored.
        """
        self.check(bases, survivors)
        entry = sorted(survivors)
        for base in bases:
            known = self._answered.setdefault(base.hex(), [])
            if entry in known and (self._rule is None or entry in self._lists):
                continue
            day = datetime.now(UTC).date().isoformat()
            line = _line(base.hex(), entry, self._rule.roster if self._rule else "", day)
            if self._path is not None:
                self._append(self._path, line)
            known.append(entry)
            self._lists += [entry] if self._rule else []

    def _append(self, path: Path, line: str) -> None:
        remedy = (
            "expected a writable file: without it this site cannot know what it has answered, so "
            "it answers nothing"
        )
        with writing(path, error=ProtocolError, remedy=remedy):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with JournalFile(path) as journal:
                journal.append(line.encode() + b"\n")
            self._count += 1
            write_atomic(_head(path), _head_content(self._count), mode=PRIVATE)

    def _read(self, path: Path) -> None:
        try:
            lines = _whole_lines(path) if path.exists() else []
            least = _counted(_head(path))
        except (OSError, ValueError) as error:
            raise _unreadable(path, f"({type(error).__name__})") from None
        self._count = len(lines)
        if len(lines) < least:
            raise _unreadable(path, f"has {len(lines)} lines of {least} that were written")
        for number, text in enumerate(lines, start=1):
            try:
                self._take(*_parsed(text))
            except (ValueError, KeyError, TypeError, RecursionError):
                raise _unreadable(path, f"line {number} cannot be read") from None

    def _take(self, base: str, survivors: list[str], roster: str, day: str) -> None:
        rule = self._rule
        if rule and roster == rule.roster and day < rule.since:
            return  # the staff says that it does not count any more
        self._answered.setdefault(base, []).append(survivors)
        if rule and roster == rule.roster and survivors not in self._lists:
            self._lists.append(survivors)


def _whole_lines(path: Path) -> list[bytes]:
    """Return the lines; half a last one, whose shares never left, is cut off."""
    with JournalFile(path) as journal:
        lines = list(journal.lines())
        if lines and not lines[-1].endswith(b"\n"):
            journal.cut_off(journal.size - len(lines.pop()))
    return [line.removesuffix(b"\n") for line in lines]


def _unreadable(path: Path, what: str) -> ProtocolError:
    return ProtocolError(
        f"{path} {what}; expected what this site wrote; without it the site cannot know what it "
        "has answered, so it answers nothing; put the file back from a copy"
    )


def _head(path: Path) -> Path:
    return path.with_name(path.name + _HEAD_SUFFIX)


def _head_content(lines: int) -> bytes:
    return f"{lines}\n".encode()


def _counted(head: Path) -> int:
    """Return how many lines were written; 0 where nothing says so."""
    if not head.exists():
        return 0
    raw = head.read_bytes()
    count = int(raw)
    if raw != _head_content(count):
        raise ValueError
    return count


def _line(base: str, survivors: list[str], roster: str, day: str) -> str:
    return json.dumps({"base": base, "survivors": survivors, "roster": roster, "day": day})


def _parsed(text: bytes) -> tuple[str, list[str], str, str]:
    """Read what `_line` writes, and nothing else that says the same."""
    line = json.loads(text)
    base, survivors = bytes.fromhex(line["base"]).hex(), sorted(map(str, line["survivors"]))
    roster, day = str(line["roster"]), str(line["day"])
    if _line(base, survivors, roster, day).encode() != text:
        raise ValueError
    return base, survivors, roster, day
