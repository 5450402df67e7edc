"""Lower bounds on epsilon from attacks that were carried out: what an audit may conclude.

An attack that succeeds more often than (epsilon, delta)-privacy allows shows that the mechanism
is not (epsilon, delta)-private. Turned round: from how often it succeeded follows a number that
the mechanism's epsilon (at this delta) is not below, at a confidence. The bounds only ever err
because the attack was lucky, and that with a chance of at most 1 - confidence. A weak attack gives
a small bound; a small bound therefore proves nothing.

**One run** (`one_run_lower_bound`). Of m canaries each is in the data with probability 1/2,
independently. From what the mechanism released the attacker guesses "in" or "out" for r of them,
and v guesses are right. If the mechanism is (epsilon, delta)-private under zeroing out one
unit, then whatever the attacker does

    P[v or more right] <= beta + 2 m delta alpha,
    W ~ Bin(r, e^epsilon / (1 + e^epsilon)),  beta = P[W >= v],
    alpha = max over i = 1 .. v of P[v - i <= W < v] / i.

With delta = 0, given what was released and the guesses on the canaries before it, the odds of a
canary's coin moved by at most e^epsilon: each guess is right with a probability of at most
e^epsilon / (1 + e^epsilon), and the right ones are dominated by W. Delta adds a random number of
guesses that come right for free, with expectation at most 2 m delta; who may choose how they are
spread gains most with alpha.

*Larger epsilons need no other look:* an epsilon that is refuted refutes all below it, because
(epsilon, delta)-privacy implies it for every larger epsilon. So any epsilon whose right-hand side
is at most 1 - confidence is a valid bound, wherever a search found it.

**Repeated runs** (`repeated_runs_lower_bound`). The mechanism runs many times on each of two
neighbours x and x'; a test that was fixed before says "x" or "x'". By the definition of privacy on
the set where it says "x", and on its complement with the roles exchanged,

    e^epsilon >= (P[says x | x] - delta) / P[says x | x'],
    e^epsilon >= (P[says x' | x'] - delta) / P[says x' | x].

The probabilities are bounded by Clopper and Pearson's exact intervals, each at half of what the
confidence leaves; the same two serve both lines.

Source: Steinke, Nasr, Jagielski 2023, Privacy Auditing with One (1) Training Run, Theorem 5.2,
https://arxiv.org/abs/2305.08846; Jagielski, Ullman, Oprea 2020, Auditing Differentially Private
Machine Learning, https://arxiv.org/abs/2006.07709; Clopper and Pearson 1934.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import special, stats

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError

CONFIDENCE = 0.999
_HALVINGS = 60
_MOST = 100.0  # an epsilon beyond which no count says anything


def one_run_lower_bound(
    *, guesses: int, right: int, canaries: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """Return what epsilon is not below, after one run with canaries.

    Parameters
    ----------
    guesses : int
        r: canaries for which a guess was made, 1 to `canaries`; fixed before the run.
    right : int
        v: how many of these guesses were right.
    canaries : int
        m: each included by a fair coin of its own, guessed or not.
    delta : float
        In [0, 1): the delta of the claim that is tested.
    confidence : float
        In (0, 1).

    Returns
    -------
    float
        0 or more; 0 says nothing.

    Raises
    ------
    ConfigError
        If a number is out of range.

    Source: Steinke, Nasr, Jagielski 2023, Theorem 5.2.
    """
    _check_claim(delta, confidence)
    _check_count("canaries", canaries, 1)
    _check_count("guesses", guesses, 1, canaries)
    _check_count("right", right, 0, guesses)
    return _largest_refuted(
        lambda epsilon: chance_of_guesses(
            epsilon, guesses=guesses, right=right, canaries=canaries, delta=delta
        ),
        1 - confidence,
    )


def chance_of_guesses(
    epsilon: float, *, guesses: int, right: int, canaries: int, delta: float
) -> float:
    """Return the most that (epsilon, delta)-privacy lets `right` or more guesses come right.

    beta + 2 m delta alpha of the module's docstring, at most 1; arguments as above.
    """
    rate = float(special.expit(epsilon))
    beta = float(stats.binom.sf(right - 1, guesses, rate))
    if right == 0 or delta == 0:
        return beta
    below = stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, rate)
    alpha = float((np.cumsum(below) / np.arange(1, right + 1)).max())
    return min(1.0, beta + 2 * canaries * delta * alpha)


def repeated_runs_lower_bound(
    *,
    hits: int,
    hit_runs: int,
    alarms: int,
    alarm_runs: int,
    delta: float,
    confidence: float = CONFIDENCE,
) -> float:
    """Return what epsilon is not below, after many runs on each of two neighbouring inputs.

    Parameters
    ----------
    hits, hit_runs : int
        How many runs on x the test called "x", of how many.
    alarms, alarm_runs : int
        How many runs on x' the test called "x", of how many. The test was fixed before these runs:
        a threshold that was chosen by them voids the confidence.
    delta : float
        In [0, 1): the delta of the claim that is tested.
    confidence : float
        In (0, 1).

    Returns
    -------
    float
        0 or more; 0 says nothing.

    Raises
    ------
    ConfigError
        If a number is out of range.

    Source: Jagielski, Ullman, Oprea 2020, section 3.
    """
    _check_claim(delta, confidence)
    for name, count, runs in (("hit", hits, hit_runs), ("alarm", alarms, alarm_runs)):
        _check_count(f"{name}_runs", runs, 1)
        _check_count(f"{name}s", count, 0, runs)
    share = (1 - confidence) / 2
    true_positive = _at_least(hits, hit_runs, share)
    false_positive = 1 - _at_least(alarm_runs - alarms, alarm_runs, share)
    return max(
        _log_ratio(true_positive - delta, false_positive),
        _log_ratio(1 - false_positive - delta, 1 - true_positive),
    )


def _at_least(count: int, runs: int, share: float) -> float:
    """Return the Clopper-Pearson lower bound of a probability, wrong with chance `share`."""
    return float(stats.beta.ppf(share, count, runs - count + 1)) if count else 0.0


def _log_ratio(above: float, below: float) -> float:
    """Return the logarithm of a ratio of probabilities, where it is above 0."""
    return math.log(above / below) if above > below else 0.0


def _largest_refuted(chance: Callable[[float], float], most: float) -> float:
    """Return the largest epsilon that bisection finds with a chance of at most `most`; or 0."""
    low, high = 0.0, 1.0
    if chance(low) > most:
        return 0.0
    while high < _MOST and chance(high) <= most:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if chance(middle) <= most:
            low = middle
        else:
            high = middle
    return low


def _check_claim(delta: float, confidence: float) -> None:
    check_range("delta", delta, 0, 1, example=1e-5, open_high=True)
    check_range("confidence", confidence, 0, 1, example=0.999, open_low=True, open_high=True)


def _check_count(key: str, value: int, low: int, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key}={value!r}; expected a whole number, e.g. {low}")
    check_range(key, value, low, high, example=low)
