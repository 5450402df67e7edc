"""The product's rules in the attack's hands: models of one number, means by hand."""

import numpy as np
import pytest

from primia_flwr.attacks.poisoning.answers import RULES, Sent, answer_of, fitting
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment

BEFORE = {"w": np.zeros(2, np.float32), "bn.mean": np.zeros(1, np.float32)}
PARAMETERS = frozenset({"w"})


def sites(count: int) -> Experiment:
    names = [f"site-{n}" for n in range(count)]
    return Experiment(federation=FederationConfig(sites=names, min_sites=count))


def sent(*values: float) -> list[Sent]:
    return [
        Sent({"w": np.full(2, v, np.float32), "bn.mean": np.full(1, v, np.float32)}, weight=10)
        for v in values
    ]


# the first of seven lies: 90 among 1, 2, 3, 4, 5, 6
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("fedavg", 111 / 7),
        ("fedmedian", 4.0),
        ("fedtrimmedavg", (2 + 3 + 4 + 5 + 6) / 5),  # the largest and the smallest are cut off
        ("secure", (6 + 1 + 2 + 3 + 4 + 5 + 6) / 7),  # 90 is clipped to 6
    ],
)
def test_a_rule_gives_what_it_gives_in_a_run(rule: str, expected: float) -> None:
    answer = answer_of(rule, sites(7), PARAMETERS, liars=1, clip=6.0)
    found = answer(BEFORE, sent(90, 1, 2, 3, 4, 5, 6))
    np.testing.assert_allclose(found["w"], expected, rtol=1e-5)
    if rule != "secure":
        np.testing.assert_allclose(found["bn.mean"], 111 / 7, rtol=1e-6)


@pytest.mark.parametrize("rule", ["krum", "multikrum", "bulyan"])
def test_a_rule_that_looks_at_distances_leaves_the_liar_out(rule: str) -> None:
    answer = answer_of(rule, sites(7), PARAMETERS, liars=1, clip=6.0)
    assert 1 <= answer(BEFORE, sent(90, 1, 2, 3, 4, 5, 6))["w"][0] <= 6


def test_a_rule_for_which_there_are_too_few_sites_says_so() -> None:
    answers, refused = fitting(RULES, sites(5), PARAMETERS, liars=1, clip=1.0)
    names = [answer.name for answer in answers]
    assert names == ["fedavg", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "secure"]
    assert list(refused) == ["bulyan"]
    assert "bulyan needs 4*1+3 updates" in refused["bulyan"]
