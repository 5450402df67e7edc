import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.errors import ConfigError
from primia_flwr.pipeline import planned_privacy as planning
from primia_flwr.pipeline.experiment import simulated_sites
from primia_flwr.pipeline.planned_privacy import planned_privacy


def planned(tmp_path, *overrides: str) -> list[dict]:
    tiny = ("data.synthetic.patients=60", "data.image_size=16", "federation.rounds=5")
    cache = f"data.cache_dir={tmp_path}"
    experiment = parse(Experiment, compose("config", [*tiny, cache, *overrides]))
    return planned_privacy(experiment, simulated_sites(experiment), 1000)


def test_steps_and_rates_of_noisy_training(tmp_path) -> None:
    rows = planned(tmp_path, "privacy=dp_sgd", "privacy.expected_batch=4", "privacy.steps=3")
    assert [row["site"] for row in rows] == ["site-1", "site-2", "site-3"]
    for row in rows:
        assert row["steps"] == 15
        assert row["sampling_rate"] == 4 / row["patients"]
        assert 7.9 < row["epsilon_by_filter"] <= 8
        assert row["epsilon_if_fixed_(pld)"] < row["epsilon_by_filter"]


def test_the_same_noise_everywhere_in_the_aggregate(tmp_path) -> None:
    rows = planned(tmp_path, "privacy=dp_aggregate", "privacy.repeats=1")
    assert len({row["noise_multiplier"] for row in rows}) == 1
    assert all(row["epsilon_by_filter"] < 8 for row in rows)  # one round is spare


def test_a_delta_that_protects_nobody_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"privacy.delta=0.5 with \d+ units"):
        planned(tmp_path, "privacy=dp_sgd", "privacy.delta=0.5")


def test_noise_is_planned_for_what_is_sent(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], planning.aggregate_noise

    def noise(experiment: Experiment, entries: int):
        asked.append(entries)
        return real(experiment, entries)

    monkeypatch.setattr(planning, "aggregate_noise", noise)
    planned(tmp_path, "privacy=dp_aggregate", "aggregation.share=0.1")
    assert set(asked) == {100}, "a tenth of a thousand numbers"
