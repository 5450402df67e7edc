"""What does not go with asynchronous rounds is refused in one sentence with its reason."""

import re

import pytest

from primia_flwr.config.load import compose_experiment, config_hash, deciding_settings
from primia_flwr.errors import ConfigError

ASYNCHRONOUS = "aggregation=asynchronous"
PRIVATE = ["privacy=dp_sgd", "model.norm=group"]
ONE_BY_ONE = "and here updates of different rounds come one by one; or take aggregation=plain"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["strategy=krum"], f"krum needs each site's update, {ONE_BY_ONE}"),
        (["strategy=fedmedian"], f"fedmedian needs each site's update, {ONE_BY_ONE}"),
        (["strategy=qfedavg"], f"qfedavg needs each site's update, {ONE_BY_ONE}"),
        (["strategy=scaffold"], f"scaffold needs control variates of the same round, {ONE_BY_ONE}"),
        (
            ["strategy=cyclic", "aggregation.name=asynchronous"],
            "cyclic needs the model of one site, handed from site to site",
        ),
        (
            ["strategy=ensemble", "aggregation.name=asynchronous"],
            "ensemble needs each site's own model, which stays apart",
        ),
        (["aggregation.buffer=4"], "aggregation.buffer=4 with 3 federation.sites; expected at mo"),
        (["aggregation.float_mean=true"], "aggregation.float_mean=true with aggregation.name=asy"),
        (["aggregation.share=0.5"], "aggregation.share=0.5 with aggregation.name=asynchronous; "),
        (["model.shared=body"], "model.shared=body with aggregation.name=asynchronous; expect"),
        (["search=demo"], "with aggregation.name=asynchronous; expected 0: configurations"),
        (["debug.cross_site=true"], "debug.cross_site=true with aggregation.name=asynchronous"),
        (["debug.record_received=true"], "debug.record_received=true with aggregation.name=asy"),
        (["debug.verify_sums=true"], "debug.verify_sums=true with aggregation.name=asynchronous"),
        (
            ["privacy=dp_aggregate"],
            "privacy.mode=dp_aggregate with aggregation.name=asynchronous; expected none or dp_sgd:"
            " its noise is complete in the sum over all sites of a round only, and here is none",
        ),
        (["privacy=dp_sgd_shared"], "privacy.mode=dp_sgd_shared with aggregation.name=asynchron"),
        (
            [*PRIVATE, "data.normalisation.kind=federated"],
            "data.normalisation.kind=federated with aggregation.name=asynchronous; expected fixed",
        ),
        ([*PRIVATE, "aggregation.validate_every=5"], "nothing is validated in a private run"),
        (
            ["training.early_stopping.federation.patience=3"],
            "or set aggregation.validate_every, e.g. 10",
        ),
        (["aggregation.mixing=0"], "aggregation.mixing=0.0; expected a number"),
        (["aggregation.mixing=1.5"], "aggregation.mixing=1.5; expected a number"),
        (["aggregation.staleness_power=-1"], "aggregation.staleness_power=-1.0; expected a number"),
        (["aggregation.max_staleness=-1"], "aggregation.max_staleness=-1; expected a number"),
        (["aggregation.buffer=0"], "aggregation.buffer=0; expected a number"),
    ],
)  # fmt: skip
def test_it_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        compose_experiment([ASYNCHRONOUS, *words])


SIX = "federation.sites=[a,b,c,d,e,f]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([SIX, "aggregation.buffer=2"], "aggregation.buffer=2 with aggregation.min_survivors=3; "),
        ([SIX, "aggregation.min_survivors=4", "federation.min_sites=4"], "expected at least 4: th"),
        (
            ["federation.sites=[a,b,c,d,e]"],
            "aggregation.buffer=3 with 5 federation.sites and "
            "aggregation.allow_other_survivors=false; expected 6 sites or more",
        ),
        ([SIX, "federation.min_sites=2"], "federation.min_sites=2 with aggregation.min_survivors"),
        ([SIX, "strategy=krum"], "strategy.name=krum with aggregation.name=buffered"),
        ([SIX, "strategy=scaffold"], "strategy.name=scaffold with aggregation.name=buffered"),
        (
            [SIX, *PRIVATE, "data.normalisation.kind=fixed"],
            "privacy.mode=dp_sgd with aggregation.name=buffered; expected none",
        ),
        ([SIX, "privacy=dp_aggregate"], "privacy.mode=dp_aggregate with aggregation.name=buffered"),
        ([SIX, "aggregation.degree=4"], "aggregation.degree=4 with aggregation.name=buffered"),
        ([SIX, "aggregation.accept_two=true"], "aggregation.accept_two=true with aggregation.name"),
        ([SIX, "debug.verify_sums=true"], "debug.verify_sums=true with aggregation.name=buffered"),
        ([SIX, "debug.record_received=true"], "debug.record_received=true with aggregation.name="),
        (
            [SIX, "training.early_stopping.site.patience=2", "training.local_epochs=3"],
            "training.early_stopping.site.patience=2 with aggregation.name=buffered; expected 0",
        ),
        ([SIX, "aggregation.float_mean=true"], "aggregation.float_mean=true with aggregation.name"),
        ([SIX, "aggregation.share=0.5"], "aggregation.share=0.5 with aggregation.name=buffered"),
        ([SIX, "model.shared=body"], "model.shared=body with aggregation.name=buffered"),
        ([SIX, "search=demo"], "with aggregation.name=buffered; expected 0: configurations"),
    ],
)  # fmt: skip
def test_buffered_rounds_refuse_more(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        compose_experiment(["aggregation=buffered", *words])


@pytest.mark.parametrize(
    "words",
    [
        [SIX],
        ["federation.sites=[a,b,c]"],
        ["federation.sites=[a,b,c,d,e]", "aggregation.allow_other_survivors=true"],
        [SIX, "strategy=fedadam", "aggregation.mixed_rounds=true", "aggregation.buffer=4"],
        [SIX, "aggregation.validate_every=5"],
    ],
)
def test_buffered_rounds_go(words: list[str]) -> None:
    compose_experiment(["aggregation=buffered", *words])


@pytest.mark.parametrize(
    "words",
    [
        [f"strategy={rule}"]
        for rule in ("fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "fedavgm")
    ]
    + [
        [*PRIVATE, "data.normalisation.kind=fixed"],
        ["aggregation.validate_every=5", "training.early_stopping.federation.patience=3"],
        ["task=conformal"],
        ["aggregation.buffer=1", "aggregation.mixing=0.6"],
    ],
)
def test_it_goes(words: list[str]) -> None:
    compose_experiment([ASYNCHRONOUS, *words])


def test_its_keys_are_no_part_of_other_runs() -> None:
    plain = compose_experiment(["aggregation=plain"])
    assert "buffer" not in deciding_settings(plain)["aggregation"]
    one, other = (
        compose_experiment([ASYNCHRONOUS, f"aggregation.buffer={buffer}"]) for buffer in (2, 3)
    )
    assert config_hash(one) != config_hash(other)


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["aggregation=plain"], ""),
        (["aggregation=secure"], ""),
        ([ASYNCHRONOUS], "Asynchronous rounds: the coordinator saw every site's update"),
        (
            [ASYNCHRONOUS, "aggregation.buffer=2"],
            "Asynchronous rounds: the coordinator saw every site's update, and another site could "
            "tell one site's",
        ),
        (
            ["aggregation=buffered"],
            "Buffered rounds: the coordinator saw sums over at least 3 sites, and when each site's "
            "update was ready",
        ),
        (
            ["aggregation=buffered", "aggregation.mixed_rounds=true"],
            "Buffered rounds: the coordinator saw sums over at least 3 sites, of models of "
            "different rounds, and when each site's update was ready",
        ),
        (["strategy=ensemble"], "Ensemble: the coordinator saw each site's model"),
        (
            ["strategy=ensemble", "strategy.options.vote=insulearn"],
            "Ensemble: the coordinator and, at the end, every other site saw each site's model",
        ),
        (
            ["aggregation=plain", "debug.cross_site=true"],
            "Plain averaging: the coordinator and, at the end, every other site saw each model",
        ),
        (["strategy=cyclic"], "Relay: the next site and the coordinator saw each site's model"),
    ],
)
def test_who_saw_models_is_said(words, seen):
    three = ["federation.min_sites=3"]
    assert compose_experiment([*three, *words]).seen_words == seen
