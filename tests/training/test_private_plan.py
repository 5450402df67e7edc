"""What noisy steps ask of a site, before an image is looked at."""

import pytest

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.errors import ConfigError
from primia_flwr.training.private_plan import plan_private, simulated_plan

CFG = {"mode": "dp_sgd", "epsilon": 3.0, "expected_batch": 50, "steps": 4}


def test_a_moving_clip_is_planned_as_a_fixed_one() -> None:
    fixed, moving = (PrivacyConfig(**CFG, **more) for more in ({}, {"clip_quantile": 0.5}))
    plans = [simulated_plan(cfg, units=500, num_rounds=5) for cfg in (fixed, moving)]
    assert plans[0] == plans[1]
    one = plan_private(moving, plans[1], round_number=2, num_rounds=5)
    assert (one.sampling_rate, one.steps, one.start_step, one.total_steps) == (0.1, 4, 4, 20)


def test_a_noise_that_the_counts_would_use_up_is_no_plan() -> None:
    # noise of 0.25 on the count: steps need a noise multiplier below 0.5
    cfg = PrivacyConfig(**CFG, clip_quantile=0.5, clip_count_noise=0.25)
    with pytest.raises(ConfigError, match=r"privacy\.clip_count_noise=0\.25 with steps of noise"):
        simulated_plan(cfg, units=500, num_rounds=5)
