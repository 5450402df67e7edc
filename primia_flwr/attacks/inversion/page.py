"""The page of an attack, self-contained, and the rows of its tables."""

import base64
from collections.abc import Mapping
from typing import Any

from primia_flwr.numbers import DASH, p_value
from primia_flwr.reporting.page import render

_LEVEL = 0.05
_Table = tuple[list[str], list[list[str]]]


def page(result: Mapping[str, Any], picture: bytes) -> str:
    """Return `attack.html`: nothing is loaded from elsewhere, and there is no script.

    Parameters
    ----------
    result : mapping
        What `attack.json` holds.
    picture : bytes
        The grid, PNG.
    """
    return render(
        "attack.html",
        result=result,
        answer=answer(result),
        picture=base64.b64encode(picture).decode(),
        figures=rows_of(result),
        tests=tests_rows(result),
        anova=(result["tests"] or {}).get("anova"),
        sums=sums_rows(result),
    )


def answer(result: Mapping[str, Any]) -> str:
    """Return whether the attack rebuilt more of the images than the control makes up by itself."""
    target = result["target"]
    own = result["arms"][target]
    hits = own["identified_by_pixels"]
    matched = (
        f"{hits['hits']} of {hits['n']} were matched with the right patient "
        f"(guessing: {hits['chance']:.1%})"
    )
    tests = {row["arm"]: row for row in (result["tests"] or {}).get("against_control", [])}
    if target not in tests:
        return f"Not tested against a control: mean SSIM {own['mean_ssim']:.3f}; {matched}."
    test = tests[target]
    p = f"p {p_value(test['p_holm'])}".replace("p 0", "p = 0")
    compared = (
        f"SSIM {test['difference']:+.3f} against what the search makes up by itself, {p}; {matched}"
    ).replace("-", "\N{MINUS SIGN}")
    if test["p_holm"] < _LEVEL:
        return f"Yes, in part: what was rebuilt resembles the patients' images ({compared})."
    return f"Not shown with this search and {own['n']} images: {compared}."


def rows_of(result: Mapping[str, Any]) -> _Table:
    """Return the figures of each arm, as text."""
    heads = [
        "arm", "n", "MSE", "PSNR (dB)", "SSIM", "SSIM with strangers", "LPIPS", "labels",
        "Fréchet distance", "identified by pixels", "by features", "by chance",
    ]  # fmt: skip
    return heads, [_row(arm, own) for arm, own in result["arms"].items()]


def _row(arm: str, own: Mapping[str, Any]) -> list[str]:
    pixels, features = own["identified_by_pixels"], own["identified_by_features"]
    distance, perceptual = own["frechet_distance"], own["mean_lpips"]
    return [
        arm,
        str(own["n"]),
        f"{own['mean_mse']:.4f}",
        f"{own['mean_psnr']:.1f}",
        f"{own['mean_ssim']:.3f}",
        _strangers(own["against_strangers"]),
        DASH if perceptual is None else f"{perceptual:.3f}",
        f"{own['labels_recovered']:.0%}",
        DASH if distance is None else f"{distance:.3g}",
        f"{pixels['hits']} of {pixels['n']} (p {p_value(pixels['p_value'])})",
        f"{features['hits']} of {features['n']} (p {p_value(features['p_value'])})",
        f"{pixels['chance']:.1%}",
    ]


def tests_rows(result: Mapping[str, Any]) -> _Table:
    """Return the tests of each arm against the control, as text."""
    heads = ["arm", "n", "difference", "Hedges' g", "t", "p", "p (Holm)", "p (Mann-Whitney)"]
    rows = [
        [
            row["arm"],
            str(row["n"]),
            f"{row['difference']:+.3f}",
            f"{row['hedges_g']:+.2f}",
            f"{row['t']:.2f}",
            p_value(row["p_value"]),
            p_value(row["p_holm"]),
            p_value(row["p_mann_whitney"]),
        ]
        for row in (result["tests"] or {}).get("against_control", [])
    ]
    return heads, rows


def sums_rows(result: Mapping[str, Any]) -> _Table:
    """Return each opened sum of `target=crafted_model`, as text; no rows for other targets."""
    heads = ["model", "round", "images in the sum", "with any gradient", "best cosine", "site"]
    rows = [
        [
            row["arm"],
            str(row["server_round"]),
            str(row["images"]),
            str(row["with_gradient"]),
            f"{row['best_cosine']:.3f}",
            "refuses it" if row["refused"] else "takes it",
        ]
        for row in result.get("sums", [])
    ]
    return heads, rows


def _strangers(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return DASH
    p = "" if found["p_value"] is None else f" (own greater: p {p_value(found['p_value'])})"
    return f"{found['strangers']:.3f}{p}"
