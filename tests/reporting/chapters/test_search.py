"""The chapter on a search, from a search.json whose figures are known."""

import json
from html.parser import HTMLParser

import pytest

from primia_flwr.config.rows import TASKS
from primia_flwr.errors import DataError
from primia_flwr.reporting.chapters.search import (
    overrides,
    rank_correlations,
    ranked,
    read_search,
    search_chapter,
)
from primia_flwr.reporting.plots.search import draw_history, draw_parallel, draw_values

TASK = TASKS["classification"]
AIM = TASK.aim
RATE, MODE = "training.learning_rate", "training.class_weights"


def entry(number, mcc, *, rungs=1, status="out", reason=""):
    values = {RATE: number / 100, MODE: "none"} if number else {}
    reached = [
        {"rounds": r, "best_round": r, "mcc": mcc, "loss": 1 - mcc, "image_passes": 60 * r}
        for r in (1, 3)[:rungs]
    ]
    return {
        "configuration": number,
        "values": values,
        "status": status,
        "reason": reason,
        "image_passes": 60,
        "rounds": (0, 1, 3)[rungs],
        "best_round": rungs or None,
        "mcc": mcc if rungs else None,
        "loss": 1 - mcc if rungs else None,
        "rungs": reached,
    }


@pytest.fixture
def found():
    return {
        "method": "successive halving",
        "eta": 3,
        "seed": 1,
        "space": {RATE: {"low": 0.01, "high": 0.1, "log": True}, MODE: {"choices": ["none"]}},
        "rungs": [{"configurations": 7, "rounds": 1}, {"configurations": 1, "rounds": 3}],
        "image_passes": 1260,
        "chosen": 2,
        "configurations": [
            entry(0, 0.3),
            entry(1, 0.1),
            entry(2, 0.7, rungs=2, status="chosen"),
            entry(3, 0.6),
            entry(4, 0.5),
            entry(5, 0.4),
            entry(6, 0.0, rungs=0, status="diverged", reason="diverged: <b>the loss</b> is nan"),
        ],
    }


@pytest.fixture
def folder(found, tmp_path):
    (tmp_path / "search.json").write_text(json.dumps(found))
    return tmp_path


def test_the_chosen_comes_first_then_the_better_and_the_diverged_last(found):
    assert [e["configuration"] for e in ranked(found, AIM)] == [2, 3, 4, 5, 0, 1, 6]


def test_the_overrides_are_words_for_the_command_line(found):
    assert overrides(found) == f'{RATE}=0.02 {MODE}="none"'
    assert overrides({**found, "chosen": 0}) == ""
    assert overrides({**found, "chosen": None}) == ""


def test_rank_correlation_by_hand(found):
    # rates 1, 2, 3, 4, 5; MCC .1, .7, .6, .5, .4: ranks 1, 5, 4, 3, 2; differences 0 3 1 1 3
    assert rank_correlations(found, AIM) == [(RATE, pytest.approx(1 - 6 * 20 / (5 * 24)), 5)]
    found["configurations"] = found["configurations"][:4]
    assert rank_correlations(found, AIM) == []


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.cell, self.text = [], None, ""

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self.cell = tag in ("td", "th") and self.rows and self.rows[-1]

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        self.text += data
        if isinstance(self.cell, list):
            self.cell.append(data)


def test_the_chapter_shows_every_configuration_and_escapes_what_sites_wrote(folder):
    chapter = search_chapter(folder, TASK)
    page = _Page()
    page.feed(chapter)
    assert page.rows[1][:5] == ["2", "chosen", "3", "0.700", "0.700"]
    assert [row[0] for row in page.rows[1:8]] == ["2", "3", "4", "5", "0", "1", "6"]
    assert "7 up to round 1, then 1 up to round 3" in page.text
    assert "1\N{NARROW NO-BREAK SPACE}260 image passes" in page.text
    assert f"{RATE}=0.02" in page.text
    assert "<b>" not in chapter
    assert chapter.count("<svg") == 3


def test_a_search_that_is_not_finished_is_told_as_such(found, folder):
    found |= {"chosen": None}
    (folder / "search.json").write_text(json.dumps(found))
    assert "the search is not finished" in search_chapter(folder, TASK)


def test_a_run_without_a_search_has_no_chapter(tmp_path):
    assert search_chapter(tmp_path, TASK) == ""
    assert read_search(tmp_path, AIM) == {}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"space": {}, "rungs": []}'])
def test_a_file_that_no_search_wrote_is_named(tmp_path, text):
    (tmp_path / "search.json").write_text(text)
    with pytest.raises(DataError, match=r"search\.json cannot be read"):
        read_search(tmp_path, AIM)


def test_pictures_say_in_words_what_they_show(found):
    assert "validation MCC of 6 configurations after 1, 3 rounds" in draw_history(found, AIM).alt
    assert f"values of {RATE} against" in draw_values(found, AIM).alt
    alt = draw_parallel(found, [RATE], AIM).alt
    assert f"configurations after the first rung over {RATE} and the validation MCC" in alt
    empty = {**found, "configurations": [entry(6, 0.0, rungs=0, status="diverged")]}
    assert (
        draw_history(empty, AIM)
        is draw_values(empty, AIM)
        is draw_parallel(empty, [RATE], AIM)
        is None
    )
