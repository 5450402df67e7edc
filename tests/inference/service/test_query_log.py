from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from primia_flwr.errors import PolicyRefusal, ServiceError
from primia_flwr.inference.service.query_log import QueryLog
from tests.faults.full_disk import full_disk


def test_the_limit_holds_over_restarts(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    log = QueryLog(file, limit=5)
    log.add("clinic", 3)
    again = QueryLog(file, limit=5)
    assert again.used("clinic") == 3
    again.add("clinic", 2)
    with pytest.raises(PolicyRefusal, match=r"asks for 1 images and has 0 left of limit=5"):
        again.add("clinic", 1)
    again.add("another", 5)
    assert [json.loads(line)["images"] for line in file.read_text().splitlines()] == [3, 2, 5]


def test_what_is_older_than_the_period_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    old = {"time": time.time() - 3601, "data_owner": "clinic", "images": 5}
    file.write_text(json.dumps(old) + "\n")
    log = QueryLog(file, limit=5, period=3600)
    assert log.used("clinic") == 0
    log.check("clinic", 5)
    with pytest.raises(PolicyRefusal, match="asks for 6 images and has 5 left"):
        log.check("clinic", 6)


@pytest.mark.parametrize("content", ["not JSON\n", "{}\n", "[]\n", '{"data_owner": "a"}\n'])
def test_a_log_that_cannot_be_read_answers_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text(content)
    with pytest.raises(ServiceError, match="cannot be read"):
        QueryLog(file, limit=5)


def test_a_query_that_cannot_be_written_down_is_not_answered(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    log = QueryLog(file, limit=5)
    file.mkdir()
    with pytest.raises(ServiceError, match="cannot be written"):
        log.add("clinic", 1)
    assert log.used("clinic") == 0


def line(images: int, owner: str = "clinic", **more: object) -> str:
    return json.dumps({"time": time.time(), "data_owner": owner, "images": images, **more})


def test_the_limit_of_a_model_has_no_period(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    long_ago = {"time": 1.0, "data_owner": "clinic", "images": 4, "model": "a"}
    file.write_text(json.dumps(long_ago) + "\n" + line(3, model="b") + "\n")
    log = QueryLog(file, limit=100, model="a", life_limit=6)
    assert (log.used("clinic"), log.used_ever("clinic")) == (3, 4)
    log.add("clinic", 2)
    with pytest.raises(PolicyRefusal, match=r"1 images and has 0 left of life_limit=6 of this m"):
        log.add("clinic", 1)
    log.add("another", 6)
    # Another model begins anew; what a line of an earlier version asked for counts for each.
    assert QueryLog(file, limit=100, model="c", life_limit=6).used_ever("clinic") == 0
    file.write_text(file.read_text() + line(1) + "\n")
    assert QueryLog(file, limit=100, model="c", life_limit=6).used_ever("clinic") == 1


def test_a_name_in_other_letters_is_the_same_data_owner(tmp_path: Path) -> None:
    log = QueryLog(tmp_path / "queries.jsonl", limit=5)
    log.add("clinic-a", 5)
    with pytest.raises(PolicyRefusal, match="0 left of limit=5"):
        log.add("Clinic-A", 1)


def test_two_servers_of_one_log_count_together(tmp_path: Path) -> None:
    one, other = (QueryLog(tmp_path / "queries.jsonl", limit=5) for _ in range(2))
    one.add("clinic", 3)
    other.add("clinic", 2)
    for log in (one, other):
        with pytest.raises(PolicyRefusal, match="0 left of limit=5"):
            log.add("clinic", 1)


def test_a_log_that_gets_shorter_answers_nothing_more(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    log = QueryLog(file, limit=5)
    log.add("clinic", 5)
    file.unlink()
    with pytest.raises(ServiceError, match="it is shorter than it was"):
        log.add("clinic", 1)


HALVES = [
    b"{",
    b'{"time"',
    b'{"time": 17',
    line(4).encode()[:-1],
    b'{"time": 1.0, "\xc3',
    b"\0" * 9,
]


@pytest.mark.parametrize("half", HALVES, ids=range(len(HALVES)))
def test_half_a_last_line_is_cut_off_and_noted(tmp_path: Path, half: bytes) -> None:
    file = tmp_path / "queries.jsonl"
    QueryLog(file, limit=5).add("clinic", 3)
    before = file.read_bytes()
    file.write_bytes(before + half)
    again = QueryLog(file, limit=5)
    assert again.used("clinic") == 3
    again.add("clinic", 2)
    first, note, last = file.read_text().splitlines()
    assert first.encode() + b"\n" == before
    assert json.loads(note)["repaired"]["bytes"] == len(half)
    assert json.loads(last)["images"] == 2
    assert QueryLog(file, limit=5).used("clinic") == 5


def test_a_whole_last_line_without_its_end_counts(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text(line(3))
    log = QueryLog(file, limit=5)
    assert log.used("clinic") == 3
    log.add("clinic", 2)
    assert QueryLog(file, limit=5).used("clinic") == 5


@pytest.mark.parametrize(
    "content", [b"no line of a log", b"\xff\xd8\xff\xe0", b'{"time": 1}\n{"ti\n']
)
def test_what_is_no_half_line_of_a_log_is_not_touched(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_bytes(content)
    with pytest.raises(ServiceError, match="cannot be read"):
        QueryLog(file, limit=5)
    assert file.read_bytes() == content


def test_a_disk_that_is_full_for_a_moment_costs_one_query_and_no_start(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    log = QueryLog(file, limit=100)
    log.add("clinic", 1)
    with (
        full_disk(file.stat().st_size + 20),
        pytest.raises(ServiceError, match="cannot be written"),
    ):
        log.add("clinic", 10)
    log.add("clinic", 2)
    assert QueryLog(file, limit=100).used("clinic") == log.used("clinic") == 3
    # The same with a process that ended in the midst of the line, and a disk still full.
    file.write_bytes(file.read_bytes() + b'{"time": 1')
    with full_disk(file.stat().st_size):
        assert QueryLog(file, limit=100).used("clinic") == 3
    log.add("clinic", 4)
    assert QueryLog(file, limit=100).used("clinic") == 7


def test_a_log_has_no_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text((line(1) + "\n") * 1000)
    monkeypatch.setattr("primia_flwr.storage.reading.MAX_BYTES", 100)
    assert QueryLog(file, limit=5).used("clinic") == 1000
