"""The code blocks of the pages, and the words of their command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SHELL = ("", "sh")
PRINTED = ("text",)  # what a command prints, not what one types

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.S | re.M,
)
_PLACEHOLDERS = {"<date>": "2026-11-21", "<time>": "12-00-00", "<64 digits>": "a" * 64}


@dataclass(frozen=True)
class Block:
    """One fenced block; `why`: the reason that a marker gives for not running it, else empty."""

    page: str
    line: int
    language: str
    text: str
    why: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        yield Block(page, line, match["language"], match["text"], match["why"] or "")


def all_blocks() -> list[Block]:
    return [
        block
        for path in PAGES
        for block in blocks_of(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]


def command_lines(text: str) -> Iterator[list[str]]:
    """Return the words of each command of a block, without comments and what stands for more."""
    for placeholder, value in _PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            yield words[: words.index("&&")]
            words = words[words.index("&&") + 1 :]
        if words:
            yield [word.replace("…", "0") for word in words if word != "…"]
