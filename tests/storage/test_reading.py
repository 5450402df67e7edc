"""What the readers refuse that their libraries take, and the one sentence that comes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.reading import (
    MAX_DEPTH,
    parse_json,
    read_bytes,
    read_text,
    reading,
)

BAD_JSON = {
    "key twice": b'{"a": 1, "a": 2}',
    "NaN": b"[NaN]",
    "infinity": b"[1e999]",
    "a parser's recursion": b"[" * 100_000,
    "deep": b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
    "half a character": b'{"\\ud800": 1}',
    "digits": b"9" * 5000,
    "beyond a double": b"9" * 400,
    "not UTF-8": b'"\xff"',
    "nothing": b"",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_python_s_own_infinity_is_read_where_a_run_may_have_written_it() -> None:
    assert parse_json("[Infinity]", finite=False) == [float("inf")]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, width=32)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)  # fmt: skip


@given(PLAIN)
def test_what_json_writes_is_read(value: object) -> None:

    finite = "Infinity" not in json.dumps(value)
    if finite:
        assert parse_json(json.dumps(value)) == value


def test_one_sentence_that_a_terminal_can_show(tmp_path: Path) -> None:
    file = tmp_path / "roster.json"
    file.write_bytes(b'{"\x1b[2J": 1, ' * 1000)
    with (
        pytest.raises(DataError) as caught,
        reading(file, error=DataError, expected="a roster; ask for it again"),
    ):
        parse_json(read_text(file))
    text = str(caught.value)
    assert text.startswith(f"{file} cannot be read (")
    assert text.endswith("); expected a roster; ask for it again")
    assert text.isprintable()
    assert len(text) < len(str(file)) + 260


@pytest.mark.parametrize("error", [ConfigError("a.yaml: key=1"), MemoryError()])
def test_errors_that_name_the_file_pass_and_memory_is_not_hidden(error: Exception) -> None:
    with (
        pytest.raises(type(error)),
        reading("a.yaml", error=DataError, expected="something"),
    ):
        raise error


def test_other_errors_of_the_project_get_the_name_of_the_file() -> None:
    with (
        pytest.raises(DataError, match=r"a\.yaml cannot be read \(key=1; expected 2\); expected 3"),
        reading("a.yaml", error=DataError, expected="3"),
    ):
        raise ConfigError("key=1; expected 2")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_bytes(tmp_path / "pipe")


def test_a_file_is_not_read_further_than_allowed(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(11))
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_bytes(tmp_path / "long", at_most=10)
    assert read_bytes(tmp_path / "long", at_most=11) == bytes(11)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: int("x"), "'x' is no number"),
        (lambda: float("1,5"), "'1,5' is no number"),
        (lambda: [][0], "it is not built as it should be"),
        (lambda: parse_json("[1]")["labels"], "it is not built as it should be"),
        (lambda: "a".items(), "it is not built as it should be"),
        (lambda: dict(**{"a": 1}, **{"b": 2})["c"], "it has no 'c'"),
        (lambda: parse_json("{"), "it is no JSON at line 1, column 2"),
        (lambda: (lambda one: one)(), "it is not built as it should be"),
        (
            lambda: load_pem_private_key(b"junk", None),
            "it holds no key or certificate that can be r",
        ),
        (lambda: sorted([1, "a"]), "it is not built as it should be"),
        (lambda: [a + b for a, b in [(1,)]], "it is not built as it should be"),
    ],
)
def test_no_words_of_python_reach_a_person(build, says: str) -> None:
    with pytest.raises(DataError) as caught, reading("f", error=DataError, expected="else"):
        build()
    assert str(caught.value).startswith(f"f cannot be read ({says}")
    assert str(caught.value).endswith("); expected else")
