from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from primia_flwr.config.rows import TASKS
from primia_flwr.reporting.result_table import results_table

JUDGE = TASKS["classification"].judge


def _printed(table: object) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


def test_models_stand_in_the_order_federated_local_centralised(
    make_run_folder: Callable[..., Path], tmp_path: Path
) -> None:
    metrics = json.loads((make_run_folder(tmp_path / "r") / "metrics.json").read_text())
    lines = _printed(results_table(metrics, JUDGE))
    assert "Results on 400 test images" in lines[0]
    order = ("Federated", "munich local", "paris local", "london local", "Centralised")
    where = [next(i for i, line in enumerate(lines) if name in line) for name in order]
    assert where == sorted(where)
    assert f"{metrics['federated']['mcc']:.3f}" in lines[where[0]]
    assert f"{metrics['centralised']['roc_auc']:.3f}" in lines[where[-1]]


def test_a_run_without_results_has_an_empty_table() -> None:
    assert results_table({}, JUDGE).row_count == 0


def test_the_class_table_shows_a_dash_where_a_figure_is_undefined() -> None:
    (sheet,) = JUDGE.sheets(JUDGE.score([0, 0], [[0.9, 0.1]] * 2, ("a", "b")))
    lines = _printed(sheet.to_rich())
    row = next(line for line in lines if " a " in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["a", "2", "1.000", "–", "–"]  # noqa: RUF001
