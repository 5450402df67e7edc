"""`primia new` and `--plugins`: what is written passes its own tests; mistakes are one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from primia_flwr.cli.main import run
from primia_flwr.config import rows
from primia_flwr.config.load import compose
from primia_flwr.config.rows import LAYOUTS, MODELS, RULES, TASKS, add_plugins
from primia_flwr.errors import ConfigError

KINDS = {"strategy": RULES, "model": MODELS, "task": TASKS, "layout": LAYOUTS}


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    monkeypatch.setattr(rows, "_PLUGINS", [])
    yield
    for name in [name for name in sys.modules if name.startswith("primia_plugins.")]:
        del sys.modules[name]


@pytest.fixture
def plugins(tmp_path):
    folder = tmp_path / "plugins"
    for kind in KINDS:
        assert run(["new", kind, f"own_{kind}", f"folder={folder}"]) == 0
    return folder


def test_each_kind_is_a_row_a_yaml_and_a_test(plugins):
    found = sorted(str(path.relative_to(plugins)) for path in plugins.rglob("*") if path.is_file())
    assert found == [
        "conf/data/own_layout.yaml",
        "conf/model/own_model.yaml",
        "conf/strategy/own_strategy.yaml",
        "conf/task/own_task.yaml",
        "layouts/own_layout.py",
        "models/own_model.py",
        "strategies/own_strategy.py",
        "tasks/own_task.py",
        *(f"tests/test_own_{kind}.py" for kind in ("layout", "model", "strategy", "task")),
    ]
    assert not [kind for kind, table in KINDS.items() if f"own_{kind}" in table]
    add_plugins(plugins)
    assert [f"own_{kind}" in table for kind, table in KINDS.items()] == [True] * 4
    choices = ["strategy=own_strategy", "model=own_model", "task=own_task", "data=own_layout"]
    composed = compose(overrides=choices)
    assert composed.strategy.options.share == 0.5
    assert (composed.model.name, composed.data.layout) == ("own_model", "own_layout")
    assert composed.data.task == "own_task"


def test_what_is_written_passes_its_own_tests(plugins):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(plugins)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=plugins, check=False)
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["new", "model"], "name=''"),
        (["new", "model", "two words"], "name="),
        (["new", "model", "class"], "name='class'"),
        (["new", "model", "_own"], "name='_own'"),
        (["new", "model", "resnet18"], "name=resnet18 is a model already"),
        (["train", "--plugins"], "--plugins without a folder"),
        (["train", "--plugins", "/nowhere"], "--plugins /nowhere"),
        (["train", "--plugins=/nowhere"], "--plugins /nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(words, named, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    error = capsys.readouterr().err
    assert named in " ".join(error.split())
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(plugins, capsys):
    before = {path: path.read_bytes() for path in plugins.rglob("*.py")}
    assert run(["new", "model", "own_model", f"folder={plugins}"]) == 2
    assert "exists; expected another name" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in plugins.rglob("*.py")} == before


@pytest.mark.parametrize("name", ["resnet18", "class", "a-b"])
def test_a_name_that_is_taken_or_no_name_is_refused(plugins, name):
    (plugins / "models" / "own_model.py").rename(plugins / "models" / f"{name}.py")
    with pytest.raises(ConfigError, match=f"{name}.py; expected a name"):
        add_plugins(plugins)


def test_a_file_without_a_row_is_named(plugins):
    (plugins / "models" / "own_model.py").write_text("MODELS = 1\n")
    add_plugins(plugins)
    with pytest.raises(ConfigError, match=r"own_model.py defines no MODEL"):
        MODELS["own_model"]


def test_a_folder_is_taken_again_as_its_files_are_now(plugins):
    add_plugins(plugins)
    assert RULES["own_strategy"].options().share == 0.5
    file = plugins / "strategies" / "own_strategy.py"
    file.write_text(file.read_text().replace("share: float = 0.5", "share: float = 0.25"))
    assert run(["new", "model", "later", f"folder={plugins}"]) == 0
    add_plugins(plugins)
    assert RULES["own_strategy"].options().share == 0.25
    assert "later" in MODELS
    assert rows.plugin_folders() == (plugins,)


def test_a_model_of_ones_own_does_not_change_what_a_key_of_another_command_means(plugins):
    add_plugins(plugins)
    cfg = compose("commands/inference/calibrate", ["model=outputs/a"])
    assert cfg.model == "outputs/a"


def test_an_installed_package_may_bring_rows(plugins, tmp_path, monkeypatch):
    info = tmp_path / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[primia_flwr.plugins]\nown = plugins\n")
    Path(plugins, "__init__.py").write_text("raise AssertionError('is not imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from primia_flwr.cli.plugins import with_plugins

    assert with_plugins(["train"]) == ["train"]
    assert rows.plugin_folders() == (plugins,)
