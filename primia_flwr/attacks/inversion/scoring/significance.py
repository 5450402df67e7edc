"""Are the attack's arms different? One-way ANOVA, and t-tests against the control.

The control is the same search on random numbers in place of the update: what the prior alone
(smooth images, the right range, a random start) gives. An update that tells nothing does no better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from primia_flwr.errors import DataError

_Values = Sequence[float]


@dataclass(frozen=True)
class _Anova:
    """`f` with its degrees of freedom; `eta_squared`: between-arm share of the sum of squares."""

    f: float
    between: int
    within: int
    p_value: float
    eta_squared: float


@dataclass(frozen=True)
class _AgainstControl:
    """One arm against the control, tested for greater values.

    `t`, `degrees`, `p_value`: Welch's t-test, one-sided; `p_holm`: after Holm's correction over
    the arms; `p_mann_whitney`: one-sided rank test. `difference`: of the means, arm less control;
    `hedges_g`: over the pooled standard deviation, corrected for small samples.
    """

    arm: str
    n: int
    mean: float
    difference: float
    hedges_g: float
    t: float
    degrees: float
    p_value: float
    p_holm: float
    p_mann_whitney: float


def anova(arms: Mapping[str, _Values]) -> _Anova:
    """Test that all arms have one mean.

    Raises
    ------
    DataError
        If there are fewer than two arms, or an arm has fewer than two values.
    """
    _check(arms)
    groups = [np.asarray(values, dtype=float) for values in arms.values()]
    found = stats.f_oneway(*groups)
    everything = np.concatenate(groups)
    total = float(((everything - everything.mean()) ** 2).sum())
    inside = float(sum(((group - group.mean()) ** 2).sum() for group in groups))
    return _Anova(
        f=float(found.statistic),
        between=len(groups) - 1,
        within=len(everything) - len(groups),
        p_value=float(found.pvalue),
        eta_squared=(total - inside) / total if total > 0 else 0.0,
    )


def against_control(arms: Mapping[str, _Values], control: str) -> list[_AgainstControl]:
    """Test each arm for values greater than the control's.

    Raises
    ------
    DataError
        As `anova`, or if `control` is no arm.
    """
    _check(arms)
    if control not in arms:
        raise DataError(f"control={control}; expected one of the arms, {', '.join(arms)}")
    base = np.asarray(arms[control], dtype=float)
    others = {name: np.asarray(v, dtype=float) for name, v in arms.items() if name != control}
    tests = {
        name: stats.ttest_ind(values, base, equal_var=False, alternative="greater")
        for name, values in others.items()
    }
    holm = multipletests([float(test.pvalue) for test in tests.values()], method="holm")[1]
    return [
        _AgainstControl(
            arm=name,
            n=len(values),
            mean=float(values.mean()),
            difference=float(values.mean() - base.mean()),
            hedges_g=hedges_g(values.tolist(), base.tolist()),
            t=float(tests[name].statistic),
            degrees=float(tests[name].df),
            p_value=float(tests[name].pvalue),
            p_holm=float(corrected),
            p_mann_whitney=float(stats.mannwhitneyu(values, base, alternative="greater").pvalue),
        )
        for (name, values), corrected in zip(others.items(), holm, strict=True)
    ]


@dataclass(frozen=True)
class _AgainstStrangers:
    """Whether reconstructions are more like their own originals than like other patients'.

    `own`, `strangers`: mean SSIM; `t`, `p_value`: paired t-test over the reconstructions, one-sided
    for greater with the own; None where they do not vary.
    """

    n: int
    own: float
    strangers: float
    t: float | None
    p_value: float | None


def against_strangers(own: _Values, strangers: _Values) -> _AgainstStrangers:
    """Test each reconstruction's SSIM with its original against that with other patients' images.

    Unlike the control it does not ask whether the search got anywhere: an update may tell what an
    average radiograph looks like, and nothing of its patients.

    Raises
    ------
    DataError
        If there are fewer than two reconstructions, or the two differ in length.
    """
    if len(own) != len(strangers) or len(own) < 2:
        raise DataError(
            f"{len(own)} reconstructions against {len(strangers)}; expected as many, at least two"
        )
    a, b = np.asarray(own, dtype=float), np.asarray(strangers, dtype=float)
    varies = float(np.ptp(a - b)) > 0
    test = stats.ttest_rel(a, b, alternative="greater") if varies else None
    return _AgainstStrangers(
        n=len(a),
        own=float(a.mean()),
        strangers=float(b.mean()),
        t=float(test.statistic) if test else None,
        p_value=float(test.pvalue) if test else None,
    )


def hedges_g(a: _Values, b: _Values) -> float:
    """Return the standardised difference of the means, a less b.

    Cohen's d with the pooled standard deviation, times 1 - 3 / (4 (n - 2) - 1) for n values
    together; 0 where nothing varies.

    Source: Hedges 1981, equation 6a approximated.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    degrees = len(x) + len(y) - 2
    squares = ((x - x.mean()) ** 2).sum() + ((y - y.mean()) ** 2).sum()
    if squares == 0:
        return 0.0
    d = (x.mean() - y.mean()) / sqrt(squares / degrees)
    return float(d * (1 - 3 / (4 * degrees - 1)))


def _check(arms: Mapping[str, _Values]) -> None:
    short = [name for name, values in arms.items() if len(values) < 2]
    if len(arms) < 2 or short:
        what = f"arm {short[0]} with too few values" if short else f"{len(arms)} arm(s)"
        raise DataError(f"{what}; expected at least two arms of two values; raise images")
