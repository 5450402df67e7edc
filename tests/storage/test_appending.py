"""A disk that is full for a moment leaves no half line in any journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.state.journal import Journal
from primia_flwr.site.log import SiteLog
from primia_flwr.storage.appending import append_whole
from tests.full_disk import full_disk


def test_a_line_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:
        append_whole(file.fileno(), b"one\n")
        with full_disk(7), pytest.raises(OSError, match="File too large"):
            append_whole(file.fileno(), b"another\n")
        append_whole(file.fileno(), b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_the_sites_log_goes_on_after_it(tmp_path: Path) -> None:
    log = SiteLog(tmp_path / "log")
    log.append("request", run="1")
    with (
        full_disk((tmp_path / "log").stat().st_size + 20),
        pytest.raises(OSError, match="File too large"),
    ):
        log.append("accepted", run="1")
    log.append("left", run="1")
    assert [entry.event for entry in SiteLog(tmp_path / "log").entries()] == ["request", "left"]


def test_a_sites_answers_go_on_after_it(tmp_path: Path) -> None:
    path = tmp_path / "answered.jsonl"
    journal = Journal(path)
    journal.record([b"\xaa"], ["a", "b", "c"])
    with full_disk(path.stat().st_size + 20), pytest.raises(ProtocolError, match="expected a writ"):
        journal.record([b"\xbb"], ["a", "b", "c"])
    journal.record([b"\xcc"], ["a", "b", "c"])
    again = Journal(path)
    for base in (b"\xaa", b"\xcc"):
        with pytest.raises(ProtocolError):
            again.check([base], ["a", "b"])
    again.check([b"\xbb"], ["a", "b"])  # for it nothing left the house
