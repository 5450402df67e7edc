"""What a site has answered, remembered for good, so that nobody can subtract two sums.

A server that learned the sum over {A, B, C} for a model could claim a crash and ask again for
{A, B}: training is deterministic, and the difference is C's update. A site therefore answers
one base, which is a model or a round of a run, for one survivor list only. The round counts on
its own because a model that differs in its last bit has another digest and the same gradients.
"""

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from primia_flwr.errors import ProtocolError


class Journal:
    """Bases, and the survivor list that the site helped to unmask for each.

    Parameters
    ----------
    path : Path
        JSON lines, appended to; nothing secret is in it. None: in memory, for one process.
    allow_other_list : bool
        The site's policy lets it answer other lists for the same base.
    """

    def __init__(self, path: Path | None, *, allow_other_list: bool = False) -> None:
        self._path = path
        self._allow = allow_other_list
        self._answered: dict[str, list[list[str]]] = {}
        if path is not None and path.exists():
            self._read(path)

    def check(self, bases: Sequence[bytes], survivors: Collection[str]) -> None:
        """Refuse a list that differs from one that was answered for one of the bases.

        Raises
        ------
        ProtocolError
            Naming both lists.
        """
        for base in bases:
            known = self._answered.get(base.hex(), [])
            if known and sorted(survivors) not in known and not self._allow:
                raise ProtocolError(
                    f"the sum over {', '.join(sorted(survivors))} is asked for a model or a round "
                    f"for which the sum over {', '.join(known[0])} was given; expected the same "
                    "sites, because the difference of two sums shows single sites; start another "
                    "run from another model (seed), or allow it in this site's policy"
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
            if entry in known:
                continue
            if self._path is not None:
                self._append(_line(base.hex(), entry))
            known.append(entry)

    def _append(self, line: str) -> None:
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ProtocolError(
                f"{self._path}: {error.strerror}; expected a writable file: without it this "
                "site cannot know what it has answered, so it answers nothing"
            ) from None

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # a crash cut the last line off before its shares left
            os.truncate(path, len(whole))
        for number, text in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                base, survivors = _parsed(text)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ProtocolError(
                    f"{path}: line {number} cannot be read; expected what this site wrote; "
                    "without it the site cannot know what it has answered, so it answers nothing"
                ) from None
            self._answered.setdefault(base, []).append(survivors)


def _line(base: str, survivors: list[str]) -> str:
    return json.dumps({"base": base, "survivors": survivors})


def _parsed(text: bytes) -> tuple[str, list[str]]:
    """Read what `_line` writes, and nothing else that says the same."""
    line = json.loads(text)
    base, survivors = bytes.fromhex(line["base"]).hex(), sorted(map(str, line["survivors"]))
    if _line(base, survivors).encode() != text:
        raise ValueError
    return base, survivors
