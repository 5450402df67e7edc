"""One line for each entry of the site's log: who asked for what, refused or not, what left."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from primia_flwr.site.log import LogEntry
from primia_flwr.storage.printable import printable

_LONGEST = 600
_MEGABYTE = 1e6


def line_of(entry: LogEntry) -> str:
    """Return an entry as one line that any terminal can show, in the time of this computer."""
    words = _WORDS.get(entry.event, _other)(entry.details)
    return printable(f"{_clock(entry.time)} {entry.event}: {words}".rstrip(": "), limit=_LONGEST)


def _clock(time: str) -> str:
    try:
        return f"{datetime.fromisoformat(time).astimezone():%H:%M:%S}"
    except (ValueError, OverflowError):
        return "??:??:??"


def _request(details: Mapping[str, Any]) -> str:
    group = str(details.get("round") or "")
    which = f", round {group}" if group.isdigit() else ""
    return f"{details.get('message')}{which}, of run {details.get('run')}, {_size(details)}"


def _refused(details: Mapping[str, Any]) -> str:
    return f"{details.get('message')}: {details.get('reason')}"


def _accepted(details: Mapping[str, Any]) -> str:
    work = {"train": "training", "evaluate": "validating"}
    kind = str(details.get("message"))
    return f"{work.get(kind, f'answering {kind}')} for {details.get('experiment')}"


def _left(details: Mapping[str, Any]) -> str:
    error = f", an error: {details['error']}" if details.get("error") else ""
    return f"{details.get('message')}, {_size(details)}{error}"


def _stored(details: Mapping[str, Any]) -> str:
    digest = str(details.get("bundle"))
    return f"code that nobody has looked at: primia site review {digest[:12]}"


def _size(details: Mapping[str, Any]) -> str:
    count = details.get("bytes")
    size = count / _MEGABYTE if isinstance(count, int) else 0.0
    return f"{details.get('arrays', 0)} arrays, {size:.1f} MB"


def _other(details: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in details.items() if key != "pid")


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "request": _request,
    "refused": _refused,
    "accepted": _accepted,
    "left": _left,
    "stored": _stored,
}
