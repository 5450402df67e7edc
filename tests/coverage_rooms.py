"""Print how much of each room the tests reach, and which rooms are below the line.

python -m tests.coverage_rooms coverage.json
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

LEAST = 85.0  # percent of lines and branches


def room_of(path: str) -> str:
    """Return the folder below the top package that a file lies in, or the top package."""
    return "/".join(PurePath(path).parts[:-1][:2])


def by_room(files: dict[str, Any]) -> dict[str, Counter[str]]:
    """Add up the summaries of coverage's JSON by room."""
    rooms: dict[str, Counter[str]] = {}
    for path, found in files.items():
        rooms.setdefault(room_of(path), Counter()).update(
            {name: n for name, n in found["summary"].items() if isinstance(n, int)}
        )
    return rooms


def percent(room: Counter[str]) -> float:
    """Return the share of lines and branches that ran, as coverage counts it."""
    ran = room["covered_lines"] + room["covered_branches"]
    return 100 * ran / max(1, room["num_statements"] + room["num_branches"])


def table(rooms: dict[str, Counter[str]]) -> list[str]:
    """Return a line a room, and one that names those below the line."""
    lines = [f"{'room':<28}{'lines':>8}{'branches':>10}{'%':>7}"]
    for name, room in sorted(rooms.items()):
        counts = f"{room['num_statements']:>8}{room['num_branches']:>10}"
        lines.append(f"{name:<28}{counts}{percent(room):>7.1f}")
    low = [name for name, room in sorted(rooms.items()) if percent(room) < LEAST]
    return [*lines, f"below {LEAST:.0f} %: {', '.join(low) or 'none'}"]


if __name__ == "__main__":
    print("\n".join(table(by_room(json.loads(Path(sys.argv[1]).read_text())["files"]))))
