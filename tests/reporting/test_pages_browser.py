"""Every page in a real headless Chromium: narrow and wide, light, dark and on paper.

Each answers its question in the first sentence under its heading.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from PIL import Image

from primia_flwr.attacks.inversion.page import page as attack_page
from primia_flwr.attacks.membership import report as membership
from primia_flwr.attacks.membership.detection import detect
from primia_flwr.attacks.membership.membership import LEVELS, Membership, YeomThreshold
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.config.rows import TASKS
from primia_flwr.config.search.space import parse_space
from primia_flwr.config.search.sweep import SweepConfig
from primia_flwr.evaluation.explain.cases import ExplainedCase, Explanation, write_cases
from primia_flwr.reporting.compare_page import write_comparison
from primia_flwr.reporting.report import write_report
from primia_flwr.runs.evidence import write_evidence
from primia_flwr.search.search import Search
from primia_flwr.search.trial import Outcome
from primia_flwr.tasks.judge import Settings
from primia_flwr.tasks.predictions import BASELINE, MODEL, Predictions, Reading
from tests.reporting import browser
from tests.reporting.run_folder_maker import CLASSES, predictions
from tests.reporting.test_report import deployed

pytestmark = pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)
Maker = Callable[..., Path]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.webdriver.Chrome]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


def simulated(folder: Path, make_run_folder: Maker) -> Path:
    """The report of a simulation with every chapter that a simulation has."""
    run = make_run_folder(folder / "run")
    write_evidence(run, TASKS["classification"].judge, seed=1, resamples=100)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    heat = np.zeros_like(pixels)
    heat[20:30, 30:50] = 255
    cases = tuple(ExplainedCase(1, "viral", p, 0.9, pixels, heat) for p in ("viral", "normal"))
    write_cases(run / "saliency", Explanation("layer4", 8, "the test set", cases))
    return write_report(run)


def federation(folder: Path, make_run_folder: Maker) -> Path:
    """The report of a real federation without a test set."""
    return write_report(deployed(make_run_folder, folder / "run"))


def comparison(folder: Path, _: Maker) -> Path:
    """Three readers with long names on the images of 200 patients."""
    readings = []
    names = ("federated", "a-very-long-name-of-a-run-2026-11-29-12-00-00: centralised", "munich")
    for sharpness, name in zip((2.0, 2.1, 1.2), names, strict=True):
        labels, p = predictions(400, sharpness, 3)
        files, patients = [f"{i}.png" for i in range(400)], [f"p{i // 2}" for i in range(400)]
        made = Predictions(tuple(files), tuple(patients), labels, p, CLASSES)
        readings.append(Reading(name, MODEL if name == "federated" else BASELINE, "run", made))
    judge = TASKS["classification"].judge
    settings = Settings(resamples=100)
    found = judge.compare(readings, settings, validation={}, groups={}, experts=None)
    about = {"title": " · ".join(names), "synthetic": False, "data": "The test set."}
    return write_comparison(folder / "comparison", found, about)


def sweep(folder: Path, _: Maker) -> Path:
    """A search of ten random trials."""
    space = parse_space({"training.batch_size": {"low": 8, "high": 64, "step": 8}})
    cfg = SweepConfig(trials=10, sampler="random")
    experiment = parse(Experiment, compose("config", []))

    def half(_: optuna.Trial, values: dict[str, Any]) -> Outcome:
        return Outcome("complete", values["training.batch_size"] / 128, 2)

    Search(cfg, space, experiment, folder, []).run(half)
    return folder / "sweep.html"


def membership_page(folder: Path, _: Maker) -> Path:
    """An attack that finds members somewhat better than by chance."""
    rng = np.random.default_rng(5)
    member = np.arange(400) % 2 == 0
    patients = [f"p{i // 4}" for i in range(400)]
    member = np.repeat(member[:100], 4)
    found = {}
    for name, gain in (("loss", 0.3), ("lira_offline", 0.7)):
        judged = detect(rng.normal(size=400) + gain * member, member, patients, seed=1)
        found[name] = dict.fromkeys(LEVELS, judged)
    attacked = Membership({}, found, YeomThreshold(0.4, 0.6, 0.4))
    values = {
        "run": "outputs/demo", "round": 3, "config_hash": "9b1c6e07aa52d310", "synthetic": True,
        "members": {"images": 200, "patients": 50}, "answer": membership.answer(attacked),
        "non_members": {"images": 200, "patients": 50},
        "shadows": {"models": 8, "mean_images": 100.0},
        "yeom_threshold": attacked.yeom.to_dict(), "privacy": None, "notes": ["A note."],
    }  # fmt: skip
    path = folder / "membership.html"
    path.write_text(membership._page(attacked, values), encoding="utf-8")
    return path


def attack(folder: Path, _: Maker) -> Path:
    """Reconstructions that do better than the control."""
    path = folder / "attack.html"
    path.write_text(attack_page(attacked_result(), grid()), encoding="utf-8")
    return path


def grid() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((60, 900), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def attacked_result(p: float = 0.0004) -> dict[str, Any]:
    """What attack.json holds of one arm and its control."""
    matched = {"hits": 5, "n": 6, "p_value": 0.001, "chance": 0.021}
    arm = {
        "n": 6, "mean_mse": 0.01, "mean_psnr": 21.5, "mean_ssim": 0.71, "mean_lpips": None,
        "against_strangers": None, "labels_recovered": 1.0, "frechet_distance": 0.2,
        "identified_by_pixels": matched, "identified_by_features": matched,
    }  # fmt: skip
    test = {
        "arm": "received_update", "n": 6, "difference": 0.31, "hedges_g": 2.1, "t": 5.0,
        "p_value": p / 2, "p_holm": p, "p_mann_whitney": p,
    }  # fmt: skip
    anova = {"between": 1, "within": 10, "f": 25.1, "p_value": 0.001, "eta_squared": 0.7}
    return {
        "target": "received_update", "run": "outputs/" + "a-long-name-of-a-run" * 3,
        "synthetic": True, "frechet_features": "the model's own", "features": "the model's own",
        "lpips": "not computed", "sums": [], "settings": {"method": "spectral", "crafted": "norm"},
        "arms": {"received_update": arm, "noise": {**arm, "mean_ssim": 0.4}},
        "tests": {"against_control": [test], "anova": anova},
    }  # fmt: skip


PAGES = {
    simulated: r"Is it good\? On 400 test images of 200 patients .* its MCC is 0\.\d+ \(0\.\d+ to "
    r"0\.\d+\): 0\.\d+ above the best single site \(munich\) and 0\.\d+ \w+ training on all data",
    federation: r"Is it good\? On the sites' own 780 validation images, added up, the accuracy is "
    r"0\.782 \(0\.752 to 0\.810\) and the MCC is",
    comparison: r"Is one better\? .+ is right more often than",
    sweep: r"Was something better found\? (Trial \d+ scores better than|No: no trial)",
    membership_page: r"Can somebody be told to have been in the training\? Yes, better than by "
    r"chance: the strongest of 2 attacks \(LiRA, offline\)",
    attack: r"Can images be rebuilt from what was seen\? Yes, in part: what was rebuilt",
}


@pytest.mark.parametrize("made", PAGES, ids=lambda made: str(made.__name__))
def test_a_page_as_people_see_it(
    made: Callable[[Path, Maker], Path],
    driver: browser.webdriver.Chrome,
    make_run_folder: Maker,
    tmp_path: Path,
) -> None:
    page = browser.Page(driver, made(tmp_path, make_run_folder))
    for scheme in ("light", "dark"):
        page.show_as(scheme)
        for width in (1280, 400):
            page.resize(width)
            assert page.overflow() == 0, f"the page scrolls sideways at {width} pixels"
            assert page.faint() == [], f"too faint in {scheme} at {width} pixels"
            page.screenshot(tmp_path / f"{scheme}-{width}.png")
    assert page.ask("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(18, 25, 31)"
    )
    first = page.ask("document.querySelector('h1 ~ p').innerText")
    assert re.match(PAGES[made], " ".join(first.split())), first
    page.show_as("dark", "print")
    assert page.faint() == [], "too faint on paper"
    assert page.print_to_pdf().startswith(b"%PDF-")
    assert page.complaints() == []
    assert page.requests() == []
    page.show_as("light")


def test_a_faint_text_is_found(driver: browser.webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "faint.html"
    path.write_text("<p style='color:#999;background:#fff'>faint</p><p>black</p>")
    page = browser.Page(driver, path)
    ((ratio, text),) = page.faint()
    assert text == "faint"
    assert ratio == pytest.approx(2.85, abs=0.01)


@pytest.mark.parametrize(("p", "begins"), [(0.0004, "Yes, in part"), (0.2, "Not shown with this")])
def test_an_attack_says_what_it_found(p: float, begins: str) -> None:
    text = attack_page(attacked_result(p), b"")
    assert f"</span> {begins}" in text
    assert "SSIM +0.310 against what the search makes up by itself" in text
    assert ("p &lt; 0.001" in text) == (p < 0.001)
    assert "5 of 6 were matched with the right patient (guessing: 2.1%)" in text
