import json
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import DataError
from primia_flwr.site.log import SiteLog


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


def is_plain(value: object) -> bool:
    return not isinstance(value, str) or (value.isprintable() and len(value) < 2100)


VALUES = st.one_of(st.text(), st.integers(), st.booleans(), st.floats(), st.none(), st.binary())


@settings(max_examples=25)
@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(str.isidentifier), VALUES))
def test_any_details_come_back_short_and_printable(
    tmp_path_factory: pytest.TempPathFactory, details: dict[str, object]
) -> None:
    details.pop("event", None), details.pop("self", None)
    file = tmp_path_factory.mktemp("log") / "log"
    SiteLog(file).append("request", **details)
    SiteLog(file).append("left", long="x" * 10_000)
    SiteLog(file).append("left")
    first, second, _ = SiteLog(file).entries()
    assert len(first.details) == len(details)
    assert all(is_plain(value) for value in first.details.values())
    harmless = {k: v for k, v in details.items() if isinstance(v, str) and v.isprintable()}
    assert harmless.items() <= first.details.items()
    assert second.details == {"long": "x" * 2000 + "... (10000 characters)"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
        ("a\nb\r", "a\\u000ab\\u000d"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2028\u200b\ufeff", "\\u2028\\u200b\\ufeff"),
        ("\ud800\U000e0041", "\\ud800\\U000e0041"),
        ("Zürich [/x] 'ε'", "Zürich [/x] 'ε'"),
        (["x"] * 9, "a list"),
        ({"a": 1}, "a dict"),
        (2**64, "a very large number"),
        (2**64 - 1, 2**64 - 1),
        (10**4000, "a very large number"),
        (True, True),
        (None, None),
    ],
)
def test_what_steers_a_terminal_is_written_in_figures(
    tmp_path: Path, value: object, kept: object
) -> None:
    SiteLog(tmp_path / "log").append("request", value=value)
    (entry,) = SiteLog(tmp_path / "log").entries()
    assert entry.details == {"value": kept}
    (tmp_path / "log").read_text(encoding="ascii")


def line(**changes: object) -> bytes:
    fields = {"number": 1, "time": "t", "event": "left", "details": {}, "previous": "0" * 64}
    return json.dumps(fields | {"hash": "0" * 64} | changes).encode() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        line(),
        line(previous="[" * 9).replace(b'"[[[[[[[[["', b"[" * 5000 + b"]" * 5000),
        line(previous=[]).replace(b"[]", b"[" * 100_000),
        line(details="x").replace(b'"x"', b'{"a":' * 3000 + b"1" + b"}" * 3000),
        line(number="1"),
        line(number=9).replace(b"9", b"9" * 5000),
        line(hash=None),
        line(event=None),
        line(details=[1]),
        line(more=1),
        b"[]\n",
        b"1\n",
        b"null\n",
        b"{}\n",
        b'"\\ud800"\n',
        b"\xff\xfe\n",
        b"\n",
        b"{",
        b"\r\r\r",
    ],
    ids=range(19),
)
def test_a_file_of_anything_else_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "log"
    file.write_bytes(content)
    with pytest.raises(DataError, match="does not follow"):
        list(SiteLog(file).entries())
    with pytest.raises(DataError, match="does not follow"):
        SiteLog(file).append("left")
    assert file.read_bytes() == content


@settings(max_examples=30)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_any_bytes_are_a_log_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    file = tmp_path_factory.mktemp("log") / "log"
    honest = "".join(write_three(file)).encode()
    for content in (noise, honest[:at] + noise + honest[at + len(noise) :]):
        file.write_bytes(content)
        try:
            assert len(list(SiteLog(file).entries())) <= 3
        except DataError:
            continue


def test_a_log_of_another_account_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three(tmp_path / "log")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        list(SiteLog(tmp_path / "log").entries())
