"""What a run would leave aside without a word, or take for something else, is refused."""

import pytest

from primia_flwr.config.load import compose_experiment
from primia_flwr.errors import ConfigError

SEALED = ["strategy=cyclic", "aggregation.sealed=true", "data.normalisation.kind=fixed"]
STOP = "training.early_stopping"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # the counts of validation patients that sets follow from are of the sites' own models
        (
            ["task=conformal", "strategy=ensemble"],
            "data.task=conformal with strategy.name=ensemble; expected another task, e.g. task=cl",
        ),
        (
            ["task=conformal", "model.shared=body"],
            "data.task=conformal with model.shared=body; expected another task",
        ),
        (
            [*SEALED, f"{STOP}.federation.patience=2"],
            f"{STOP}.federation.patience=2 with aggregation.sealed=true; expected 0: in a sealed",
        ),
        (
            [*SEALED, "training.local_epochs=3", f"{STOP}.site.patience=2",
             f"{STOP}.site.retire_after=1"],
            f"{STOP}.site.retire_after=1 with aggregation.sealed=true; expected 0",
        ),
        (
            [*SEALED, "aggregation.reveal=never", "baselines=[local,centralised]"],
            r"baselines=\[local,centralised\] with aggregation.reveal=never; expected \[\]: the",
        ),
        (
            ["aggregation=plain", "debug.verify_sums=true"],
            "debug.verify_sums=true with aggregation.name=plain; expected false, or aggregation=se",
        ),
        (
            ["strategy=cyclic", "debug.verify_sums=true"],
            "debug.verify_sums=true with aggregation.name=relay; expected false",
        ),
        (
            ["aggregation=plain", "strategy=fedmedian", "aggregation.share=0.1",
             "aggregation.share_by=own"],
            "aggregation.share_by=own with strategy.name=fedmedian; expected random or change",
        ),
        (["privacy.epsilon=3"], "privacy.epsilon=3 with privacy.mode=none; expected 0, or a mode"),
        (["privacy.noise_multiplier=1"], "privacy.noise_multiplier=1 with privacy.mode=none"),
        (["privacy.statistics_noise=5"], "privacy.statistics_noise=5 with privacy.mode=none"),
        (["privacy.averaging=0.9"], "privacy.averaging=0.9 with privacy.mode=none; expected 0"),
    ],
)  # fmt: skip
def test_it_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose_experiment(words)


@pytest.mark.parametrize(
    "words",
    [
        [*SEALED, "training.local_epochs=3", f"{STOP}.site.patience=2"],  # at the site alone
        ["task=conformal", "strategy=cyclic"],  # all validate the model that goes round
        ["aggregation=plain", "aggregation.share=0.1", "aggregation.share_by=own"],
        [*SEALED, "baselines=[local]"],  # the coordinator is given the last model
    ],
)
def test_what_is_heeded_is_not(words: list[str]) -> None:
    compose_experiment(words)
