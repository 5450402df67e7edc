"""How often the tests of `primia compare` find a difference where there is none, by simulation.

Two readers who are equally good read the same images. In each design a patient has so many images,
and what a reader makes of them is alike with `correlation`: a normal part that the patient's images
share. `dominating`: one patient has half of all images, the others 1 to 4. The areas are of scores
1.2 standard deviations apart; in the `crossing` rows one model's scores vary four times as much in
positive as in negative images, so the two curves cross and enclose equal areas. Of kappa, what is
counted are 95 % intervals that miss its true value, 0.6.

    python -m primia_bench.training.type_one_error --output benchmarks/results/type_one_error.json

Demanded at 5 % nominal: 3.5 to 6.5 %. Where on average fewer than 10 patients differ, a test of
whole numbers cannot come up to it (with 4 differing patients no p below 0.05 exists): there at most
6.5 % are demanded, and the row says `few`. An interval of kappa may miss less often than 3.5 %.
Rows that are not demanded show what was not chosen: the same tests by image, Durkalski's, and
DeLong's with a normal quantile; and the crossing curves, of which no exact test is known.
"""

import argparse
import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from primia_bench.machine import describe_machine, publish
from primia_flwr.statistics.agreement import kappa, mcnemar_test
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.by_patient import patient_sums
from primia_flwr.statistics.delong import (
    area,
    covariance,
    difference_variance,
    weighted_area,
)
from primia_flwr.statistics.swapped_areas import swap_test

BOUNDS = (0.035, 0.065)
FEW = 10
ACCURACY, AREA, KAPPA = "accuracy, by patient", "area, by patient", "kappa, by patient"
DEMANDED = (ACCURACY, AREA, KAPPA)
_LIMIT = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Design:
    """So many patients with so many images each, alike with `correlation`."""

    patients: int
    images: str
    correlation: float
    crossing: bool = False

    def patient_of(self, rng: np.random.Generator) -> IntArray:
        """Return the patient of each image."""
        if self.images == "dominating":
            each = rng.integers(1, 5, self.patients)
            each[0] = each[1:].sum()
        elif self.images == "1 to 8":
            each = rng.integers(1, 9, self.patients)
        else:
            each = np.full(self.patients, int(self.images))
        return np.repeat(np.arange(self.patients), each)

    def noise(self, of: IntArray, rng: np.random.Generator) -> FloatArray:
        """Return a normal number an image, of unit variance."""
        shared = rng.normal(size=self.patients)[of]
        own = rng.normal(size=len(of))
        return math.sqrt(self.correlation) * shared + math.sqrt(1 - self.correlation) * own


PATIENTS = (12, 20, 40, 100, 200)
DESIGNS = [
    *(Design(n, "1", 0.0) for n in PATIENTS),
    *(
        Design(n, images, correlation)
        for n in PATIENTS
        for images in ("2", "4", "8", "1 to 8", "dominating")
        for correlation in (0.0, 0.3, 0.7, 1.0)
    ),
    *(Design(n, "1 to 8", 0.3, crossing=True) for n in PATIENTS),
]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    started = time.process_time()
    rows = []
    for design in DESIGNS:
        rows += rows_of(design, args)
    demanded = [row for row in rows if row["demanded"]]
    full = [row for row in demanded if not row["few"]]
    return {
        "benchmark": "type_one_error",
        "settings": {key: value for key, value in vars(args).items() if key != "output"},
        "bounds": BOUNDS,
        "rows": rows,
        "summary": {
            test: summary_of(rows, test) for test in dict.fromkeys(r["test"] for r in rows)
        },
        "demanded_rows": len(demanded),
        "demanded_rows_that_hold": sum(row["holds"] for row in demanded),
        "rows_of_enough_patients": len(full),
        "holds": all(row["holds"] for row in demanded),
        "cpu_seconds": round(time.process_time() - started, 1),
        "machine": describe_machine(),
    }


def rows_of(design: Design, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each test that the design is for."""
    rng = np.random.default_rng(args.seed)
    found: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for repetition in range(args.repetitions):
        of = design.patient_of(rng)
        if not design.crossing:
            accuracy_tests(design, of, rng, found)
            kappa_misses(design, of, rng, found)
        if repetition < args.area_repetitions:
            area_tests(design, of, rng, found)
    return [row_of(design, test, outcomes) for test, outcomes in found.items()]


def accuracy_tests(design: Design, of: IntArray, rng: np.random.Generator, found: Any) -> None:
    """Two readers who are right on 80 % of the images."""
    case, *own = (design.noise(of, rng) for _ in range(3))
    right = [0.6 * case + 0.8 * one < norm.ppf(0.8) for one in own]
    labels = np.zeros(len(of), np.int64)
    first, second = ((~one).astype(np.int64) for one in right)
    by_patient = mcnemar_test(labels, first, second, of)
    found[ACCURACY].append((by_patient.p < 0.05, by_patient.differing_patients))
    by_image = mcnemar_test(labels, first, second, np.arange(len(of)))
    found["accuracy, by image"].append((by_image.p < 0.05, by_image.differing_patients))
    sums = patient_sums(second - first, of)
    spread = math.sqrt(float((sums**2).sum()))
    found["accuracy, Durkalski"].append(
        (abs(sums.sum()) > _LIMIT * spread, by_patient.differing_patients)
    )


def kappa_misses(design: Design, of: IntArray, rng: np.random.Generator, found: Any) -> None:
    """Two readers of kappa 0.6: one tosses a coin, the other says the same on 80 %."""
    first = (design.noise(of, rng) > 0).astype(np.int64)
    second = np.where(design.noise(of, rng) < norm.ppf(0.8), first, 1 - first)
    for test, units in ((KAPPA, of), ("kappa, by image", np.arange(len(of)))):
        interval = kappa(first, second, 2, units)
        if interval.low is not None and interval.high is not None:
            found[test].append((not interval.low <= 0.6 <= interval.high, len(np.unique(units))))


def area_tests(design: Design, of: IntArray, rng: np.random.Generator, found: Any) -> None:
    """Two models of equal areas; every second patient is positive."""
    labels = (of % 2).astype(np.int64)
    case, *own = (design.noise(of, rng) for _ in range(3))
    first, second = (0.6 * case + 0.8 * one for one in own)
    if design.crossing:
        second = second * np.where(labels == 1, 2.0, 0.5) + 1.2 * labels * (math.sqrt(17 / 8) - 1)
    first, second = first + 1.2 * labels, second + 1.2 * labels
    scores = [np.stack([-one, one], axis=1) for one in (first, second)]
    areas = [weighted_area(labels, one, of) for one in scores]
    variance = difference_variance(areas[0], areas[1], of)
    swapped = swap_test(labels, scores[0], scores[1], of, variance=variance)
    found[AREA].append((swapped.p < 0.05, swapped.differing_patients))
    for test, units in (("area, DeLong by patient, normal", of), ("area, DeLong by image", None)):
        areas = [area(one, labels == 1, units) for one in (first, second)]
        matrix = covariance(areas, units)
        error = math.sqrt(max(0.0, float(matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1])))
        far = abs(areas[0].value - areas[1].value) > _LIMIT * error
        found[test].append((bool(far), swapped.differing_patients))


def row_of(design: Design, test: str, outcomes: list[tuple[bool, float]]) -> dict[str, Any]:
    wrong, differing = (np.array(column, float) for column in zip(*outcomes, strict=True))
    share, few = float(wrong.mean()), bool(differing.mean() < FEW)
    # An interval of kappa is conservative where patients are of unequal size.
    only_above = few or test == KAPPA
    return {
        "design": asdict(design),
        "test": test,
        "repetitions": len(outcomes),
        "type_one_error": round(share, 4),
        "monte_carlo_error": round(math.sqrt(share * (1 - share) / len(outcomes)), 4),
        "differing_patients": round(float(differing.mean()), 1),
        "few": few,
        "demanded": test in DEMANDED and not design.crossing,
        "holds": (only_above or share >= BOUNDS[0]) and share <= BOUNDS[1],
    }


def summary_of(rows: list[dict[str, Any]], test: str) -> dict[str, Any]:
    """Return the least and the greatest error of a test, by whether enough patients differ."""
    of = {name: [row["type_one_error"] for row in rows if row["test"] == test and row["few"] == few]
          for name, few in (("enough", False), ("few", True))}  # fmt: skip
    return {name: [min(found), max(found), len(found)] for name, found in of.items() if found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repetitions", type=int, default=3000)
    parser.add_argument("--area-repetitions", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    publish(measure(arguments), arguments.output)


if __name__ == "__main__":
    main()
