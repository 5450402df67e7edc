from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from primia_flwr.crypto.query_log import QueryLog
from primia_flwr.errors import PolicyRefusal, ServiceError


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
