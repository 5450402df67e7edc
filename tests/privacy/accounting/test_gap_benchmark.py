"""The gap between training and test against the noise: its figures by hand, and one tiny run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from primia_bench.privacy import generalisation_gap as gap

TINY = ["--noises", "0", "1", "--unit-steps", "1", "--seeds", "1", "2", "--train", "30",
        "--batch", "10", "--steps", "2"]  # fmt: skip


def test_limits_by_hand() -> None:
    # deviation 1, so an error of 1 / sqrt(3); Student's t with 2 degrees of freedom: 4.3027
    assert gap.limits([1.0, 2.0, 3.0]) == {
        "mean": 2.0,
        "half_width": pytest.approx(4.3027 / 3**0.5, abs=1e-4),
        "seeds": [1.0, 2.0, 3.0],
    }
    assert gap.limits([1.0])["half_width"] is None


def test_a_change_is_that_of_the_same_seed_clip_and_steps() -> None:
    def row(noise: float, clip: str, gaps: list[float]) -> dict[str, object]:
        arm = {"noise_multiplier": noise, "clip": clip, "unit_steps": 1}
        return {**arm, "gap": {"seeds": gaps}}

    (found,) = gap.changes(
        [
            row(0, "fixed", [0.1, 0.2]),
            row(2, "fixed", [0.3, 0.1]),
            row(2, "adaptive", [0.5, 0.5]),  # nothing to hold it against
        ]
    )
    assert found["seeds"] == [0.2, -0.1]
    assert (found["clip"], found["mean"]) == ("fixed", 0.05)


def test_digits_are_dealt_out_once() -> None:
    train, test = gap.digits(3, 120)
    assert (len(train), len(test)) == (120, 1677)
    assert not set(train.files) & set(test.files)
    assert (
        sum(p.numel() for p in gap.network(0).parameters()) == 64 * 32 + 32 + 32 * 10 + 10 == 2410
    )


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "gap.json"
    monkeypatch.setattr("sys.argv", ["gap", *TINY, "--output", str(output)])
    gap.main()
    first = json.loads(output.read_text())
    assert [(r["noise_multiplier"], r["clip"]) for r in first["rows"]] == [
        (0, "fixed"), (1, "fixed"), (0, "adaptive"), (1, "adaptive"),
    ]  # fmt: skip
    assert first["rows"][1]["epsilon"] > 0
    assert first["rows"][0]["epsilon"] is None
    assert first["rows"][0]["last_clip"] == [1.0, 1.0]
    assert all(clip != 1.0 for clip in first["rows"][2]["last_clip"])
    monkeypatch.setattr(gap, "measure", lambda *_: pytest.fail("measured again"))
    gap.main()
    assert json.loads(output.read_text())["rows"] == first["rows"]
