"""The report of an invented run: what it says, what it leaves out, how it is built."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from primia_flwr.config.rows import TASKS
from primia_flwr.errors import DataError
from primia_flwr.reporting.report import write_report
from primia_flwr.runs.evidence import write_evidence
from tests.remembered import forget_plots

Maker = Callable[..., Path]
_VOID = {"meta", "br", "path", "use", "rect", "circle", "line", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Collects what a test asks for, and checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(make_run_folder: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_run_folder(tmp_path_factory.mktemp("runs") / "full")
    write_report(path)
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_all_sections_and_figures_of_the_run_are_there(page: Page, folder: Path) -> None:
    for heading in ("What was run", "Results", "Training, round by round", "Sites",
                    "Time and traffic", "Configuration"):  # fmt: skip
        assert heading in page.words
    for fact in ("9b1c6e07aa52d310", "4f2a9c01d7be", "flwr 1.41.0", "munich", "london"):
        assert fact in page.words
    federated = json.loads((folder / "metrics.json").read_text())["federated"]
    assert f"{federated['mcc']:.3f}" in page.words
    assert str(federated["confusion"][1][1]) in page.words
    for name in ("munich local", "paris local", "london local", "Centralised"):
        assert name in page.words


def test_the_headline_compares_with_the_best_hospital_and_with_pooling(
    page: Page, folder: Path
) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    above = metrics["federated"]["mcc"] - metrics["local"]["munich"]["mcc"]
    below = metrics["centralised"]["mcc"] - metrics["federated"]["mcc"]
    assert f"{above:.3f} above the best single site (munich)" in page.words
    assert f"{below:.3f} below training on all data in one place" in page.words


def test_traffic_and_time_are_the_sums_of_the_history(page: Page, folder: Path) -> None:
    with (folder / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    up = sum(int(row["bytes_up"]) for row in rows)
    assert f"{up / 1e9:.1f} GB" in page.words
    outside = sum(float(row["seconds_outside_training"]) for row in rows)
    assert f"({outside / len(rows):.1f} s a round)" in page.words


def test_every_site_and_round_stands_in_the_table_with_its_marks(page: Page) -> None:
    assert "no reply within 120 s" in page.words
    assert page.words.count("evaluated only") >= 2
    labels = [attrs.get("aria-label") for _, attrs in page.tags]
    assert labels.count("trained, stopped early") == 3
    assert labels.count("evaluated only") == 2
    assert labels.count("failed: no reply within 120 s") == 1


def test_the_page_is_self_contained_and_holds_no_script(page: Page, folder: Path) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "img"}
    for tag, attrs in page.tags:
        for key, value in attrs.items():
            assert not key.startswith("on")
            if key in ("href", "src", "xlink:href"):
                assert value is not None
                assert value.startswith("#"), f"<{tag}> loads {value}"
    assert "http-equiv" in next(a for t, a in page.tags if "http-equiv" in a)
    style = re.search(r"<style>(.*?)</style>", (folder / "report.html").read_text(), re.DOTALL)
    assert style is not None
    assert "url(" not in style.group(1)
    assert "@import" not in style.group(1)


def test_ids_are_unique_and_every_reference_has_its_target(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for key in ("href", "xlink:href"):
            if attrs.get(key):
                assert str(attrs[key])[1:] in ids
        clip = re.match(r"url\(#(.+)\)", attrs.get("clip-path") or "")
        if clip:
            assert clip.group(1) in ids


def test_tables_have_captions_and_pictures_have_words(page: Page) -> None:
    names = [tag for tag, _ in page.tags]
    assert names.count("table") == names.count("caption") > 4
    pictures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(pictures) == 6
    for attrs in pictures:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"] or "") > 30
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")


def test_what_the_configuration_holds_is_text_not_markup(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_the_plots_lie_beside_the_page_and_are_the_same_every_time(folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in (folder / "plots").iterdir()}
    assert set(before) == {
        f"{n}.svg" for n in ("rounds", "sites", "confusion", "roc", "comparison", "timings")
    }
    page = (folder / "report.html").read_bytes()
    forget_plots()
    write_report(folder)
    assert {p.name: p.read_bytes() for p in (folder / "plots").iterdir()} == before
    assert (folder / "report.html").read_bytes() == page
    assert not [p for p in folder.rglob(".*") if p.is_file()], "no partial file is left"


def test_the_citation_belongs_to_its_data_only(make_run_folder: Maker, tmp_path: Path) -> None:
    assert "10.17632/rscbjbr9sj.2" in page_of(make_run_folder(tmp_path / "a")).words
    auto = make_run_folder(tmp_path / "b", layout="auto")
    assert "Kermany" not in page_of(auto).words
    resolved = make_run_folder(tmp_path / "c", layout="auto", **{"data_layout": "pneumonia"})
    assert "CC BY 4.0" in page_of(resolved).words


def test_images_that_a_generator_made_are_said(make_run_folder: Maker, tmp_path: Path) -> None:
    page = page_of(make_run_folder(tmp_path / "r", generated="images of a <b>generator</b>"))
    assert "Synthetic data. These are images of a <b>generator</b>." in page.words  # as text


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("private", [True, False])
def test_notices_follow_the_run(
    make_run_folder: Maker, tmp_path: Path, synthetic: bool, private: bool
) -> None:
    page = page_of(make_run_folder(tmp_path / "r", synthetic=synthetic, secure_aggregation=private))
    assert ("Synthetic data." in page.words) is synthetic
    assert ("No secure aggregation: plain averaging." in page.words) is not private


def test_a_deployment_without_test_set_says_so(make_run_folder: Maker, tmp_path: Path) -> None:
    path = make_run_folder(tmp_path / "r", deployment="deployment", test=None, sites=[])
    (path / "metrics.json").unlink()
    (path / "predictions.csv").unlink()
    page = page_of(path)
    assert "the coordinator holds no test set" in page.words
    assert "There is no test set in this run." in page.words
    assert "The sites did not report their counts." in page.words
    assert "Confusion" not in page.words


def test_without_baselines_the_table_says_how_to_get_them(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    path = make_run_folder(tmp_path / "r")
    metrics = json.loads((path / "metrics.json").read_text())
    (path / "metrics.json").write_text(json.dumps({"federated": metrics["federated"]}))
    (path / "predictions.csv").unlink()
    page = page_of(path)
    assert "train with baselines=[local,centralised]" in page.words
    assert "ROC curves need predictions.csv" in page.words
    assert "comparison.svg" not in {p.name for p in (path / "plots").iterdir()}


def test_a_run_that_broke_off_before_its_first_round_still_has_a_report(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    path = make_run_folder(tmp_path / "r", status="failed", rounds=1)
    for name in ("history.csv", "sites.csv", "metrics.json", "predictions.csv", "config.yaml"):
        (path / name).unlink()
    page = page_of(path)
    assert "Run failed." in page.words
    assert page.words.count("No round was completed.") == 2
    assert "The run keeps no figures of single sites." in page.words
    assert "config.yaml is not in the folder." in page.words


def test_run_json_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "No round was completed." in page_of(tmp_path).words


def test_a_folder_that_is_none_and_a_broken_file_are_named(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no run\.json there; expected the output folder"):
        write_report(tmp_path)
    path = make_run_folder(tmp_path / "r")
    (path / "metrics.json").write_text("{")
    with pytest.raises(DataError, match=r"metrics\.json cannot be read"):
        write_report(path)
    (path / "metrics.json").write_text('{"federated": {"n": 3}}')
    with pytest.raises(DataError, match="per_class"):
        write_report(path)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_a_real_browser_shows_it_without_complaint(folder: Path, tmp_path: Path) -> None:
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
        "--window-size=1000,1400", f"--screenshot={tmp_path / 'page.png'}",
        (folder / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert (tmp_path / "page.png").stat().st_size > 20_000


CONFUSION = [[150, 30, 20], [20, 330, 30], [30, 40, 130]]
SECURE_DEPLOYMENT = {
    "deployment": "deployment",
    "data_layout": "pneumonia",
    "secure_aggregation": True,
    "sites": [{"site": name} for name in ("munich", "paris", "london")],
    "label_counts": [865, 1628, 846],
    "test": None,
    "validation": {"n": 780, "counts": {"confusion": [n for row in CONFUSION for n in row]},
                   "loss": 0.5},
    "resumed": ["2026-11-21T12:00:00"],
}  # fmt: skip


def deployed(make_run_folder: Maker, path: Path, **changes: object) -> Path:
    folder = make_run_folder(path, **{**SECURE_DEPLOYMENT, **changes})
    for name in ("metrics.json", "predictions.csv"):
        (folder / name).unlink()
    return folder


def test_a_real_federation_has_figures_of_its_summed_validation(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    page = page_of(deployed(make_run_folder, tmp_path / "run"))
    # 610 of 780: Wilson by hand (0.78205 + 0.002463 +- 1.959964 * 0.014905) / 1.004925
    assert (
        "Is it good? On the sites' own 780 validation images, added up, the accuracy is 0.782 ("
        in (page.words)
    )
    assert "0.782 [0.752, 0.810]" in page.words
    assert "by image" in page.words
    assert "They also chose the model" in page.words
    best = json.loads((tmp_path / "run" / "run.json").read_text())["best_round"]
    assert f"Of the model of round {best}, on the sites' 780 validation images" in page.words
    assert "normal 200 0.750 (0.686 to 0.805)" in page.words
    assert "All sites 3 339 865 1 628 846" in (page.words)
    assert "did not report their counts" not in page.words
    assert "Resumed 2026-11-21 12:00:00" in page.words


@pytest.mark.parametrize("layout", ["pneumonia", "folder", "synthetic"])
def test_the_public_set_is_cited_for_the_public_set_only(
    make_run_folder: Maker, tmp_path: Path, layout: str
) -> None:
    real = deployed(make_run_folder, tmp_path / "real", data_layout=layout)
    assert "Kermany" not in page_of(real).words
    simulated = make_run_folder(tmp_path / "simulated", data_layout=layout)
    assert ("Kermany" in page_of(simulated).words) == (layout == "pneumonia")


def test_who_saw_models_stands_in_place_of_plain_averaging(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    run = make_run_folder(tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    said = "Ensemble: the coordinator saw each site's model"
    (run / "run.json").write_text(json.dumps({**facts, "seen": said}))
    words = page_of(run).words
    assert f"Was it safe? {said}, which can betray images" in words
    assert "lain averaging" not in words


def test_the_three_questions_are_answered_first(page: Page, folder: Path) -> None:
    begin = page.words.index("Is it good?")
    text = page.words[begin:]
    assert text.index("Was it safe?") < text.index("What was run")
    assert text.startswith("Is it good? On 400 test images that no site trained on, its MCC is 0.")
    assert "Was it safe? Plain averaging: the coordinator saw every site's update" in text
    assert "without differential privacy" in text
    assert "Perhaps: without differential privacy nothing bounds it." in text


def test_a_figure_without_interval_says_why(make_run_folder: Maker, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run")
    judge = TASKS["classification"].judge
    write_evidence(folder, judge, seed=1, resamples=100)
    evidence = json.loads((folder / "evidence.json").read_text())
    of = evidence["figures"]["Federated"]["mcc"]
    of.update(low=None, high=None, note="the resamples do not vary enough for an interval")
    (folder / "evidence.json").write_text(json.dumps(evidence))
    words = page_of(folder).words
    assert "(no interval: the resamples do not vary enough for an interval): 0." in words


def test_an_attack_on_the_run_is_told_at_the_top(make_run_folder: Maker, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run")
    (folder / "membership").mkdir()
    (folder / "membership" / "membership.json").write_text('{"answer": "AUC 0.61 by patient."}')
    assert "nothing bounds it. Measured: AUC 0.61 by patient." in page_of(folder).words


@pytest.mark.parametrize(
    ("validation", "match"),
    [
        ({"n": 780, "counts": {"confusion": [1, 2]}, "loss": 0.5}, "run.json: validation"),
        ({"n": 7, "counts": {"confusion": [1] * 9}, "loss": 0.5}, "run.json: validation"),
        ({"n": 780}, "run.json: validation"),
    ],
)
def test_validation_counts_that_cannot_be_are_named(
    make_run_folder: Maker, tmp_path: Path, validation: object, match: str
) -> None:
    folder = deployed(make_run_folder, tmp_path / "run", validation=validation)
    with pytest.raises(DataError, match=match):
        write_report(folder)


def test_a_private_deployment_says_that_nobody_knows_how_good(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    folder = deployed(make_run_folder, tmp_path / "run", validation={}, label_counts=[])
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config + "privacy:\n  mode: dp_sgd\n  epsilon: 2\n")
    words = page_of(folder).words
    assert "Is it good? Nobody knows yet: a private run sends no scores." in words
    assert (
        "Secure aggregation: the coordinator saw sums, and no single site's update; with" in words
    )
    # 1 - (1 - delta) / (1 + e^2) = 0.8808
    assert "is right in at most 88 of 100 cases where 50 is chance" in words
