"""Human readers and groups from CSV files: what is read, and what is refused in one sentence."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import DataError
from primia_flwr.tasks.classes.readers.experts import join_experts, read_experts
from primia_flwr.tasks.classes.readers.panel import Panel, Reader
from primia_flwr.tasks.image_csv import read_groups
from primia_flwr.tasks.predictions import MODEL

FILES = ("a/1.png", "a/2.png", "b/3.png")
CLASSES = ("bacterial", "normal")
HEADER = "file,reader,label\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experts.csv"
    path.write_text(text, encoding="utf-8")
    return path


def panel() -> Panel:
    labels = np.array([0, 1, 1])
    return Panel(FILES, ("p", "q", "r"), labels, CLASSES, (Reader("m", MODEL, labels),))


def test_readers_in_order_of_appearance(tmp_path: Path) -> None:
    text = HEADER + "b/3.png,zoe,normal\na/1.png, adam ,bacterial\n\na/1.png,zoe,normal\n"
    found = read_experts(write(tmp_path, text), FILES, CLASSES)
    assert found == {"zoe": {2: 1, 0: 1}, "adam": {0: 0}}
    assert list(found) == ["zoe", "adam"]


def test_figures_are_on_the_images_that_all_have_read_and_it_is_said(tmp_path: Path) -> None:
    text = HEADER + "b/3.png,zoe,normal\na/1.png,zoe,normal\na/1.png,adam,bacterial\n"
    joined, note = join_experts(panel(), write(tmp_path, text))
    assert joined.files == ("a/1.png",)
    assert [r.name for r in joined.readers] == ["m", "zoe", "adam"]
    assert [int(r.predicted[0]) for r in joined.readers] == [0, 1, 0]
    assert note == (
        "All figures are on the 1 of 3 images that every reader has read (read: zoe 2, adam 1)."
    )


def test_nothing_is_said_where_all_have_read_all(tmp_path: Path) -> None:
    text = HEADER + "".join(f"{file},zoe,normal\n" for file in FILES)
    joined, note = join_experts(panel(), write(tmp_path, text))
    assert (len(joined), note) == (3, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no lines"),
        (HEADER, "has no lines"),
        ("file,label\na/1.png,normal\n", "first line is file,label; expected file,reader,label"),
        (HEADER + "a/9.png,zoe,normal\n", r"line 2: file='a/9\.png' is not among the 3 images"),
        (HEADER + "a/1.png,zoe,norml\n", r"line 2: label='norml'.*did you mean normal"),
        (HEADER + "a/1.png,,normal\n", "line 2: reader is empty"),
        (HEADER + "a/1.png,zoe,normal\na/1.png,zoe,normal\n", r"line 3: zoe has read a/1\.png"),
        (HEADER + "a/1.png,zoe\n", "line 2: 2 columns; expected 3"),
        (HEADER + '"a/1.png,zoe,normal\n', "cannot be read"),
    ],
)
def test_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_experts(write(tmp_path, text), FILES, CLASSES)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        read_experts(tmp_path / "none.csv", FILES, CLASSES)


def test_no_common_image_and_a_name_that_is_taken_are_refused(tmp_path: Path) -> None:
    text = HEADER + "b/3.png,zoe,normal\na/1.png,adam,bacterial\n"
    with pytest.raises(DataError, match="no image is read by all of zoe, adam"):
        join_experts(panel(), write(tmp_path, text))
    with pytest.raises(DataError, match="two of which are called m"):
        join_experts(panel(), write(tmp_path, HEADER + "b/3.png,m,normal\n"))


def test_groups_by_name_and_none_where_the_file_is_silent(tmp_path: Path) -> None:
    path = write(tmp_path, "file,scanner\nb/3.png,X\na/1.png,A\n")
    assert read_groups(path, FILES) == ("scanner", {"a/1.png": "A", "b/3.png": "X"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,scanner\na/1.png,A\n", "expected file,<name of the groups>"),
        ("file,scanner\na/1.png,A\na/1.png,B\n", r"line 3: a/1\.png occurs twice"),
        ("file,scanner\na/9.png,A\n", "is not among the 3 images"),
    ],
)
def test_groups_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_groups(write(tmp_path, text), FILES)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(FILES),
            st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1, max_size=8),
            st.sampled_from(CLASSES),
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda row: (row[0], row[1]),
    )
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([("file", "reader", "label"), *rows])
    path = write(tmp_path_factory.mktemp("experts"), stream.getvalue())
    found = read_experts(path, FILES, CLASSES)
    assert sum(len(labels) for labels in found.values()) == len(rows)
    for file, reader, label in rows:
        assert found[reader][FILES.index(file)] == CLASSES.index(label)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_as_data(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("experts") / "e.csv"
    path.write_bytes((HEADER + text).encode("utf-8", "surrogatepass"))
    try:
        found = read_experts(path, FILES, CLASSES)
    except DataError:
        return  # any other exception fails the test
    assert all(set(labels) <= {0, 1, 2} for labels in found.values())
