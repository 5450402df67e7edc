"""Every package of an extra can be missing: one sentence, exit code 2, and nothing is written."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from torch import nn

from primia_flwr.cli.main import run
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.config.root import app_root
from primia_flwr.errors import MissingExtraError
from primia_flwr.extras import EXTRAS, installed, need
from primia_flwr.pipeline.needed import check_extras
from primia_flwr.privacy.clipping.table import build_engine
from primia_flwr.runs.tracking_mode import resolve_mode

DEMO = ("train", "experiment=demo")
SENTENCES = [
    ("ray", DEMO, "deployment=simulation needs ray"),
    ("ray", (*DEMO, "dry_run=true"), "deployment=simulation needs ray"),
    ("ray", ("train", "-m", "experiment=demo", "seed=1,2"), "deployment=simulation needs ray"),
    ("ray", ("train", "-m", "experiment=demo", "sweep=demo"), "deployment=simulation needs ray"),
    ("wandb", (*DEMO, "tracking=online"), "tracking.mode=online needs wandb"),
    ("wandb", (*DEMO, "tracking=offline"), "tracking.mode=offline needs wandb"),
    (
        "optuna",
        ("train", "-m", "experiment=demo", "sweep=demo"),
        "a search (sweep=...) needs optuna",
    ),
    ("optuna", ("train", "-m", "sweep.resume=outputs/a"), "a search (sweep=...) needs optuna"),
    ("optuna", (*DEMO, "search=demo"), "search.population=4 needs optuna"),
    ("crypten", ("infer", "protocol=crypten"), "protocol=crypten needs crypten"),
    ("crypten", ("serve", "model-owner", "protocol=crypten"), "protocol=crypten needs crypten"),
    ("crypten", ("inference", "trial", "protocol=crypten"), "protocol=crypten needs crypten"),
    ("captum", DEMO, "report.saliency=2 needs captum"),
    ("captum", ("federation", "trial", "experiment=demo"), "report.saliency=2 needs captum"),
    ("statsmodels", ("compare", "runs=[outputs/a]"), "primia compare needs statsmodels"),
    ("statsmodels", ("attack", "run=outputs/a"), "primia attack needs statsmodels"),
    ("torchmetrics", ("attack", "run=outputs/a"), "primia attack needs torchmetrics"),
    (
        "opacus",
        (*DEMO, "privacy=dp_sgd", "privacy.engine=opacus"),
        "privacy.engine=opacus needs opacus",
    ),
]


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make the packages look as if they were not installed."""
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(("package", "words", "says"), SENTENCES)
def test_a_missing_package_is_one_sentence_before_anything_is_written(
    package: str,
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    hide(monkeypatch, package)
    assert run(list(words)) == 2
    said = capsys.readouterr()
    command = f"pip install 'primia-flwr[{EXTRAS[package]}]'"
    assert said.err.startswith(f"error: {says}, which is not installed; expected the extra ")
    assert said.err.count("\n") == 1
    assert command in said.err
    assert said.out == ""
    assert not list(tmp_path.iterdir())


def test_what_is_installed_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    need("ray", "deployment=simulation")
    assert installed("ray")
    hide(monkeypatch, "ray")
    assert not installed("ray")


def test_a_run_without_the_feature_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *EXTRAS)
    experiment = parse(Experiment, compose("config", ["experiment=demo"]))
    experiment.report.saliency = 0
    check_extras(experiment, own_sites=True)  # real SuperNodes: no Ray
    check_extras(parse(Experiment, compose("config", ["experiment=demo"])), own_sites=True,
                 scored=False)  # fmt: skip
    with pytest.raises(MissingExtraError, match=r"^deployment=simulation needs ray"):
        check_extras(experiment)


def test_a_site_without_opacus_does_not_clip_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "opacus")
    with pytest.raises(MissingExtraError, match=r"^privacy.engine=opacus needs opacus"):
        build_engine("opacus", nn.Linear(1, 1), lambda *_: _[0], clip_norm=1.0)


def test_automatic_tracking_goes_on_without_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracking = parse(Experiment, compose("config", ["tracking=auto"])).tracking
    assert resolve_mode(tracking) == "offline"
    hide(monkeypatch, "wandb")
    assert resolve_mode(tracking) == "disabled"


def test_every_package_is_in_its_extra_and_in_all() -> None:
    project = tomllib.loads((app_root() / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for package, extra in EXTRAS.items():
        wanted = "flwr[simulation]" if package == "ray" else package
        assert [line for line in extras[extra] if line.startswith(wanted)], package
        assert not [line for line in project["dependencies"] if line.startswith(wanted)], package
    assert extras["all"] == [
        "primia-flwr[simulation,tracking,search,inference,pretrained,analysis,nifti,segmentations]"
    ]


# Modules that may need a package of an extra as they are imported.
DOORS = (
    "primia_flwr.attacks.",
    "primia_flwr.cli.analysis.compared_runs",
    "primia_flwr.cli.train.search",
    "primia_flwr.statistics.agreement",
    "primia_flwr.inference.crypten.",
    "primia_flwr.privacy.clipping.opacus_reference",
    "primia_flwr.reporting.compare_page",
    "primia_flwr.search.",
    "primia_flwr.tasks.classes.readers.",
    "primia_flwr.tasks.compared",
    "primia_flwr.tasks.findings.compare",
    "primia_flwr.tasks.masks.compare",
)
IMPORT_ALL = """
import importlib, pkgutil, sys
extras, doors = sys.argv[1].split(","), tuple(sys.argv[2].split(","))
sys.modules.update(dict.fromkeys(extras))
for top in ("clients", "strategies", "primia_flwr"):
    for found in pkgutil.walk_packages(importlib.import_module(top).__path__, top + "."):
        if not found.name.startswith(doors):
            importlib.import_module(found.name)
"""


def test_everything_but_the_doors_imports_without_the_extras() -> None:
    arguments = [",".join(EXTRAS), ",".join(DOORS)]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *arguments],
        cwd=app_root(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
