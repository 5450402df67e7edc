"""Only the folder of tasks knows of classes: what is asked of a task is asked of the seam."""

import ast
import re
import subprocess
import sys

import pytest

from primia_flwr.config.root import app_root
from primia_flwr.config.rows import TASKS
from primia_flwr.tasks.judge import Judge
from primia_flwr.tasks.task import LOSS, Task

ROOT = app_root()
ROOMS = ("primia_flwr", "clients", "strategies", "benchmarks", "conf")
KINDS = (".py", ".jinja", ".yaml", ".css", ".txt")
OWN = ("primia_flwr/tasks/", "primia_flwr/cli/new/templates/task")
# Measures earlier versions as well, whose keywords were others.
OF_EARLIER = {"benchmarks/primia_bench/training/import_time.py"}
WORDS = re.compile(r"\b(confusion|num_classes|class_counts)\b", re.IGNORECASE)
METRICS = {
    "accuracy",
    "balanced_accuracy",
    "mcc",
    "val_accuracy",
    "val_balanced_accuracy",
    "val_mcc",
}
# Scripts that measure one classification, and attacks whose own figures bear such names.
OF_CLASSIFICATION = ("benchmarks/", "primia_flwr/attacks/")


def sources():
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in KINDS and path.is_file() and not name.startswith(OWN):
                yield name, path.read_text(encoding="utf-8")


def test_nobody_else_says_what_only_a_task_knows():
    found = [n for n, text in sources() if WORDS.search(text) and n not in OF_EARLIER]
    assert found == []


def metrics_in(text):
    """The metrics of classification that stand as words of their own in a module's code."""
    tree = ast.parse(text)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in METRICS and id(node) not in docs
    } | {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in METRICS - {"accuracy"}
    }


def test_nobody_else_lists_the_metrics_of_classification():
    found = {
        name: metrics_in(text)
        for name, text in sources()
        if name.endswith(".py") and not name.startswith(OF_CLASSIFICATION) and metrics_in(text)
    }
    assert found == {}


@pytest.mark.parametrize(
    "text", ["x = row['val_mcc']", "scores.mcc", "('mcc', 1)", "{'balanced_accuracy': 1}"]
)
def test_the_search_for_metrics_finds_them(text):
    assert metrics_in(text)


def test_every_task_can_be_shown():
    for name in TASKS:
        task = TASKS[name]
        assert isinstance(task, Task)
        assert isinstance(task.judge, Judge)
        assert task.name == name
        names = [metric.name for metric in task.metrics]
        assert LOSS in names
        assert task.aim.name in names
        assert [metric.name for metric in task.judge.headlined] == list(task.judge.headline)
        if task.judge.template:
            folder = ROOT / "primia_flwr" / "tasks" / "templates"
            assert (folder / f"{task.judge.template}.html.jinja").is_file()
            assert (folder / f"{task.judge.template}_card.md.jinja").is_file()


@pytest.mark.parametrize("module", ["task", "classification"])
def test_a_task_is_imported_without_what_is_slow(module):
    slow = ("torch", "sklearn", "matplotlib", "scipy", "statsmodels", "rich")
    code = f"""
import sys
import primia_flwr.tasks.{module}
print(sorted(set(sys.modules) & set({slow!r})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
