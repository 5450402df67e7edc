import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import DataError
from primia_flwr.site.site_log import SiteLog


def append_ten(file: Path) -> None:
    for number in range(10):
        SiteLog(file).append("left", bytes=number)


def write_three(file: Path) -> list[str]:
    log = SiteLog(file)
    log.append("request", run="1", message="train")
    log.append("refused", run="1", reason="not approved")
    log.append("left", run="1", bytes=0)
    return file.read_text().splitlines(keepends=True)


def test_entries_come_back_in_order_and_chained(tmp_path: Path) -> None:
    write_three(tmp_path / "log")
    entries = list(SiteLog(tmp_path / "log").entries())
    assert [e.event for e in entries] == ["request", "refused", "left"]
    assert [e.number for e in entries] == [1, 2, 3]
    assert entries[0].previous == "0" * 64
    assert entries[2].previous == entries[1].hash
    assert entries[1].details == {"run": "1", "reason": "not approved"}


def test_file_is_private(tmp_path: Path) -> None:
    write_three(tmp_path / "log")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("victim", [0, 1])
def test_changed_removed_or_swapped_lines_break_the_chain(tmp_path: Path, victim: int) -> None:
    file = tmp_path / "log"
    lines = write_three(file)
    changed = lines.copy()
    changed[victim] = changed[victim].replace('"run": "1"', '"run": "2"')
    removed = lines[:victim] + lines[victim + 1 :]
    swapped = lines.copy()
    swapped[victim], swapped[victim + 1] = swapped[victim + 1], swapped[victim]
    for content in (changed, removed, swapped):
        file.write_text("".join(content))
        with pytest.raises(DataError, match="does not follow"):
            list(SiteLog(file).entries())


def test_rehashed_line_breaks_the_next_one(tmp_path: Path) -> None:
    file = tmp_path / "log"
    lines = write_three(file)
    other = tmp_path / "other"
    SiteLog(other).append("request", run="2", message="train")
    file.write_text("".join([other.read_text(), *lines[1:]]))
    with pytest.raises(DataError, match="entry 2 does not follow"):
        list(SiteLog(file).entries())


def test_cut_line_is_refused_for_append_too(tmp_path: Path) -> None:
    file = tmp_path / "log"
    content = "".join(write_three(file))
    file.write_text(content[:-20])
    with pytest.raises(DataError, match="the newest entry"):
        SiteLog(file).append("left", bytes=1)


def test_unknown_event_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="event='deleted'"):
        SiteLog(tmp_path / "log").append("deleted")


def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    file = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append_ten, args=(file,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(list(SiteLog(file).entries())) == 20


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(str.isidentifier), st.text()))
def test_any_details_survive(
    tmp_path_factory: pytest.TempPathFactory, details: dict[str, str]
) -> None:
    details.pop("event", None), details.pop("self", None)
    file = tmp_path_factory.mktemp("log") / "log"
    SiteLog(file).append("request", **details)
    SiteLog(file).append("left", long="x" * 10_000)
    SiteLog(file).append("left")
    assert next(SiteLog(file).entries()).details == json.loads(json.dumps(details))
