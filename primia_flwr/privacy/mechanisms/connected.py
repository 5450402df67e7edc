"""What belongs together because it shares something, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Connected:
    """Sets of words; each row of words that is put in makes one set of all sets that it touches.

    Source: Galler and Fischer 1964, An improved equivalence algorithm.
    """

    def __init__(self, rows: Iterable[Sequence[str]] = ()) -> None:
        self._above: dict[str, str] = {}
        for row in rows:
            self.join(row)

    def join(self, row: Sequence[str]) -> None:
        """Put the words of a row into one set."""
        for word in row:
            one, other = self.root(row[0]), self.root(word)
            self._above[max(one, other)] = min(one, other)

    def root(self, word: str) -> str:
        """Return the smallest word of the set of a word, which stands for the set."""
        path = [word]
        while (above := self._above.setdefault(path[-1], path[-1])) != path[-1]:
            path.append(above)
        self._above.update(dict.fromkeys(path, path[-1]))
        return path[-1]

    def roots(self) -> set[str]:
        """Return what stands for each set."""
        return {self.root(word) for word in list(self._above)}
