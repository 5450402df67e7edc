"""What is counted of sequences, by hand, and that the page shows what was measured."""

from pathlib import Path

import numpy as np
from primia_bench.inference.sequences import fewer_missed, missed, table

from primia_flwr.runs.metadata import read_json

ROOT = Path(__file__).parents[2]
ILL = np.array([False] * 10 + [True] * 4)


def test_missed_are_the_ill_below_what_nine_of_ten_healthy_reach() -> None:
    """Healthy 0 to 9: nine of ten are at most 8, which one ill patient equals and one is below."""
    scores = np.array([*range(10), 3.0, 8.0, 8.5, 20.0])
    assert missed(scores, ILL, 0.9) == 2
    assert missed(scores, ILL, 1.0) == 3
    assert missed(scores, ILL, 0.1) == 0


def test_the_difference_of_two_scores_that_never_differ_is_nothing() -> None:
    names = [f"p{n}" for n in range(14)]
    perfect, useless = np.where(ILL, 1.0, 0.0), np.zeros(14)
    same = fewer_missed([perfect], [perfect], ILL, names, 0.9)
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}
    all_fewer = fewer_missed([perfect, perfect], [useless, useless], ILL, names, 0.9)
    assert all_fewer == {"value": -1.0, "low": -1.0, "high": -1.0}


def test_the_page_shows_what_was_measured() -> None:
    result = read_json(ROOT / "benchmarks/results/inference_sequences.json")
    assert table(result) in (ROOT / "docs/encrypted-sequences.md").read_text(encoding="utf-8")


def test_the_page_shows_what_one_vote_misses() -> None:
    result = read_json(ROOT / "benchmarks/results/inference_sequences_votes.json")
    page = (ROOT / "docs/encrypted-sequences.md").read_text(encoding="utf-8")
    alone, together = (
        ", ".join(map(str, result["rows"][name]["missed"]))
        for name in (result["best_single_frame"], "mean")
    )
    assert f"misses {alone} by the last frame's vote alone, and {together} by" in page
    less = result["rows"]["mean"]["missed_share_minus_that_of_best_frame"]
    assert f"{less['value']:.3f}, {less['low']:.3f} to {less['high']:.3f};" in page
    assert result["best_single_frame"] == "frame_5"
