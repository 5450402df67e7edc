"""A few hundred changed image files, in a process of their own; `fuzz.images` feeds thousands."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.image_seeds import seeds
from tests.fuzz.images import changed, run


def test_changed_files_are_shown_or_refused_and_end_no_process(tmp_path: Path) -> None:
    result = run(300, 7, tmp_path)
    assert result["findings"] == []
    assert sum(result["counts"].values()) == 300
    assert result["counts"]["decoded"] > 30
    assert result["counts"]["refused"] > 30


def test_a_number_is_the_same_file_again() -> None:
    among = seeds()
    assert changed(5, 7, among) == changed(5, 7, among)
    assert changed(5, 7, among) != changed(5, 8, among)
