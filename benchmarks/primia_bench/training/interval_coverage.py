"""How often the 95 % intervals of `primia compare` hold the true value, by simulation.

Two designs whose truth is known exactly. Multinomial: readers call classes by a fixed table, so
accuracy and MCC are known; in the clustered rows a patient has 1, 2 or 3 images, and with
probability `correlation` all of them get one and the same call. Binormal: scores of the two
classes are normal, `separation` standard deviations apart, so the area is Phi(separation /
sqrt(2)); clustered scores share a patient's part with that correlation. Of three classes, each
has a score of its own, so every one-vs-rest area, and their weighted sum, is that. Class counts are
fixed, as the intervals are conditional on them.

    python -m primia_bench.training.interval_coverage \
        --output benchmarks/results/interval_coverage.json

Demanded of the intervals that `primia compare` shows: 93 to 97 %. `holds` is false where the
observed share lies outside; the Monte-Carlo error (one standard error) is given with each.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from primia_bench.machine import describe_machine, publish
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.auc import area_statistic
from primia_flwr.statistics.bootstrap_t import weighted_area_interval
from primia_flwr.statistics.delong import area_interval, weighted_area
from primia_flwr.statistics.intervals import Strata, bootstrap_limits, bootstrapped
from primia_flwr.tasks.classes.bootstrap import confusion_figures, confusion_statistic

BOUNDS = (0.93, 0.97)
SIZES_OF_PATIENTS = (1, 2, 3)
# Rows: true class; columns: the class called.
CALLS = np.array([[0.80, 0.08, 0.12], [0.05, 0.90, 0.05], [0.25, 0.05, 0.70]])
STUDENTISED = "area, DeLong, studentised"
DEMANDED = ("accuracy, BCa", "mcc, BCa", STUDENTISED)
"""What `primia compare` shows; the other rows are what it might have shown."""


@dataclass(frozen=True)
class Design:
    """Patients of each class; whether they have 1 to 3 images; how alike those are."""

    kind: str
    patients: tuple[int, ...]
    clustered: bool = False
    correlation: float = 0.0
    separation: float = 0.0


MULTINOMIAL = (
    Design("multinomial", (18, 24, 18)),
    Design("multinomial", (60, 80, 60)),
    Design("multinomial", (15, 125, 60)),
    Design("multinomial", (150, 200, 150)),
    Design("multinomial", (60, 80, 60), clustered=True, correlation=0.6),
)
BINORMAL = (
    Design("binormal", (30, 30), separation=1.2),
    Design("binormal", (100, 100), separation=1.2),
    Design("binormal", (30, 30), separation=2.4),
    Design("binormal", (100, 100), separation=2.4),
    Design("binormal", (180, 20), separation=1.2),
    Design("binormal", (180, 20), separation=2.4),
    Design("binormal", (300, 300), separation=2.4),
    Design("binormal", (100, 100), clustered=True, correlation=0.6, separation=1.6),
    Design("three scores", (60, 80, 60), separation=1.6),
    Design("three scores", (120, 60, 30), clustered=True, correlation=0.6, separation=2.4),
)
TOO_FEW = Design("binormal", (180, 20), separation=3.2)
"""Beyond what is demanded, to show the limit: 20 patients and an area of 0.988."""


def measure(args: argparse.Namespace) -> dict[str, Any]:
    started = time.process_time()
    rows = [row for design in MULTINOMIAL for row in multinomial_rows(design, args)]
    rows += [row for design in BINORMAL for row in area_rows(design, args)]
    demanded = [row for row in rows if row["demanded"]]
    beyond = [{**row, "demanded": False} for row in area_rows(TOO_FEW, args)]
    return {
        "benchmark": "interval_coverage",
        "settings": {key: value for key, value in vars(args).items() if key != "output"},
        "bounds": BOUNDS,
        "rows": rows,
        "beyond_the_demand": beyond,
        "demanded_rows": len(demanded),
        "demanded_rows_that_hold": sum(row["holds"] for row in demanded),
        "holds": all(row["holds"] for row in demanded),
        "cpu_seconds": round(time.process_time() - started, 1),
        "machine": describe_machine(),
    }


def multinomial_rows(design: Design, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the coverage of accuracy and MCC, with BCa and percentile limits."""
    labels, patients = images_of(design)
    strata = Strata.by_class([f"{p:04d}" for p in patients], labels)
    counts = np.bincount(labels).astype(np.float64)
    truth = confusion_figures((CALLS * counts[:, None])[None])[:2, 0]
    rng = np.random.default_rng(args.seed)
    hits: dict[str, list[tuple[bool, bool, float]]] = {}
    for _ in range(args.bootstrap_repetitions):
        called = draw_calls(labels, patients, design, rng)
        whole = confusion_statistic(labels, called, len(counts), strata)
        for method in ("BCa", "percentile"):
            limits = bootstrap_limits(
                lambda weights: whole(weights)[:2],  # noqa: B023 - called at once
                strata, rng=rng, resamples=args.resamples, method=method,
            )  # fmt: skip
            for name, true, row in zip(
                ("accuracy", "mcc"), truth, np.stack(limits, axis=1), strict=True
            ):
                rate = name == "accuracy"
                found = bootstrapped(row, patients=strata.size, rate=rate)
                hit = verdict(float(true), found.low, found.high)
                hits.setdefault(f"{name}, {method}", []).append(hit)
    true_values = dict(zip(("accuracy", "mcc"), truth, strict=True))
    return [row_of(name, design, true_values[name.split(",")[0]], of) for name, of in hits.items()]


def area_rows(design: Design, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the coverage of the weighted area's intervals: DeLong's in three forms, and BCa."""
    labels, patients = images_of(design)
    strata = Strata.by_class([f"{p:04d}" for p in patients], labels)
    rng = np.random.default_rng(args.seed + 1)
    truth = float(norm.cdf(design.separation / math.sqrt(2)))
    hits: dict[str, list[tuple[bool, bool, float]]] = {}
    for _ in range(args.bootstrap_repetitions):
        scores = draw_scores(labels, patients, design, rng)
        found = weighted_area(labels, scores, patients)
        statistic = area_statistic(labels, scores, len(design.patients), strata)
        bca = np.stack(bootstrap_limits(statistic, strata, rng=rng, resamples=args.resamples))
        forms = {
            STUDENTISED: weighted_area_interval(
                labels, scores, strata, rng=rng, resamples=args.resamples
            ),
            "area, DeLong, logit": area_interval(found, patients),
            "area, DeLong": area_interval(found, patients, on_logit=False),
            "area, BCa": bootstrapped(bca[:, 0], patients=strata.size, rate=False),
        }
        if design.clustered:
            forms["area, DeLong, logit, images as if independent"] = area_interval(
                weighted_area(labels, scores)
            )
        for name, interval in forms.items():
            hits.setdefault(name, []).append(verdict(truth, interval.low, interval.high))
    return [row_of(name, design, truth, of) for name, of in hits.items()]


def images_of(design: Design) -> tuple[IntArray, IntArray]:
    """Return label and patient of each image; patients have 1, 2, 3, 1, ... images or one each."""
    classes = np.repeat(np.arange(len(design.patients)), design.patients)
    each = [SIZES_OF_PATIENTS[k % 3] if design.clustered else 1 for k in range(len(classes))]
    patients = np.repeat(np.arange(len(classes)), each)
    return classes[patients].astype(np.int64), patients.astype(np.int64)


def draw_calls(
    labels: IntArray, patients: IntArray, design: Design, rng: np.random.Generator
) -> IntArray:
    """Draw the class called of each image."""
    size = int(patients.max()) + 1
    shared = rng.random(size)[patients]
    alike = (rng.random(size) < design.correlation)[patients]
    uniform = np.where(alike, shared, rng.random(len(labels)))
    return np.asarray((uniform[:, None] >= CALLS.cumsum(axis=1)[labels][:, :-1]).sum(axis=1))


def draw_scores(
    labels: IntArray, patients: IntArray, design: Design, rng: np.random.Generator
) -> FloatArray:
    """Draw a score of each class for each image, (N, C).

    Unit variance, `separation` higher for images of the class. Of two classes there is one score,
    with both signs.
    """
    columns = 1 if len(design.patients) == 2 else len(design.patients)
    shared = rng.normal(size=(int(patients.max()) + 1, columns))[patients]
    own = rng.normal(size=(len(labels), columns))
    noise = math.sqrt(design.correlation) * shared + math.sqrt(1 - design.correlation) * own
    if columns == 1:
        score = noise + design.separation * (labels == 1)[:, None]
        return np.concatenate([-score, score], axis=1)
    return np.asarray(noise + design.separation * (labels[:, None] == np.arange(columns)))


def verdict(truth: float, low: float | None, high: float | None) -> tuple[bool, bool, float]:
    """Return whether the interval holds the truth, whether there is none, and its width.

    No interval counts as a miss.
    """
    if low is None or high is None:
        return False, True, math.nan
    return low <= truth <= high, False, high - low


def row_of(
    name: str, design: Design, truth: float, hits: Sequence[tuple[bool, bool, float]]
) -> dict[str, Any]:
    covered, none, widths = (np.array(column) for column in zip(*hits, strict=True))
    share = float(covered.mean())
    return {
        "interval": name,
        "design": design.kind,
        "patients_of_class": list(design.patients),
        "images_of_a_patient": "1 to 3" if design.clustered else "1",
        "correlation": design.correlation,
        "truth": round(float(truth), 4),
        "repetitions": len(hits),
        "coverage": round(share, 4),
        "monte_carlo_error": round(math.sqrt(share * (1 - share) / len(hits)), 4),
        "mean_width": round(float(np.nanmean(widths)), 4),
        "without_interval": int(none.sum()),
        "demanded": name in DEMANDED,
        "holds": BOUNDS[0] <= share <= BOUNDS[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bootstrap-repetitions", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    publish(measure(arguments), arguments.output)


if __name__ == "__main__":
    main()
