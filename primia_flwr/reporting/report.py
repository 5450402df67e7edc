"""`report.html`: one self-contained page that says what was run and what came of it.

The page is a function of the run folder: it can be written again at any time, and it shows no
figure that is not in a file beside it. It holds no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from primia_flwr.reporting import result_table as table
from primia_flwr.reporting.chapters import evidence as report_evidence
from primia_flwr.reporting.chapters import secure as secure_account
from primia_flwr.reporting.chapters.privacy import HEADINGS, privacy_account
from primia_flwr.reporting.chapters.search import search_chapter
from primia_flwr.reporting.chapters.sites import no_site_figures, site_table
from primia_flwr.reporting.plots import run as plots
from primia_flwr.reporting.plots.run import Plot
from primia_flwr.runs.folder import (
    Row,
    RunFolder,
    flag,
    number,
    plain_values,
    read_run_folder,
)
from primia_flwr.storage.atomic import write_result

CITATIONS = {
    "pneumonia": (
        "Kermany D, Zhang K, Goldbaum M (2018). Labeled Optical Coherence Tomography (OCT) and "
        "Chest X-Ray Images for Classification. Mendeley Data, V2, doi:10.17632/rscbjbr9sj.2. "
        "Licence: CC BY 4.0."
    )
}
# status -> (symbol, meaning); the order is the legend's
SYMBOLS = {
    "ok": ("●", "trained"),
    "stopped": ("◐", "trained, stopped early"),
    "evaluated": ("○", "evaluated only"),
    "failed": ("✕", "failed, refused, rejected or late"),
}
# what a run writes down when it ends -> what that means
ENDS = {
    "rounds": "all rounds were run",
    "early-stopping": "no better model for a while",
    "sites-stopped": "too few sites still trained",
}
_OPEN_ROWS = 24  # a longer table is folded


def write_report(run_dir: Path) -> Path:
    """Write `report.html` and `plots/*.svg` into an output folder and return the page's path.

    Raises
    ------
    DataError
        If the folder is no output folder or one of its files cannot be read.
    """
    folder = read_run_folder(run_dir)
    drawn = draw(folder)
    plot_dir = run_dir / "plots"
    plot_dir.mkdir(exist_ok=True)
    for plot in drawn.values():
        write_result(plot_dir / f"{plot.name}.svg", plot.svg)
    target = run_dir / "report.html"
    write_result(target, render(folder, drawn))
    return target


def draw(folder: RunFolder) -> dict[str, Plot]:
    """Return every plot that the folder has the figures for, by name."""
    drawn: list[Plot | None] = []
    federated = folder.results.get("Federated")
    if folder.history:
        best = int(folder.run.get("best_round") or 0)
        if any(row.get("train_loss") or row.get("val_loss") for row in folder.history):
            drawn.append(plots.global_curves(folder.history, best))
        drawn.append(plots.timings(folder.history))
    if any(row.get("val_loss") or row.get("val_mcc") for row in folder.sites):
        drawn.append(plots.site_curves(folder.sites))
    if federated:
        drawn.append(plots.confusion_matrix(federated))
        if folder.predictions:
            drawn.append(plots.roc_curves(folder.predictions, federated))
    if len(folder.results) > 1:
        drawn.append(plots.comparison(folder.results))
    drawn += report_evidence.evidence_drawings(folder)
    return {plot.name: plot for plot in drawn if plot}


def render(folder: RunFolder, drawn: Mapping[str, Plot]) -> str:
    """Return the page as text."""
    environment = Environment(
        loader=PackageLoader("primia_flwr.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=table.figure, cell=_cell, count=_count)
    config = plain_values(folder.config)
    layout = folder.run.get("data_layout") or config.get("data", {}).get("layout", "")
    return environment.get_template("report.html.jinja").render(
        run=folder.run,
        deployment=folder.run.get("deployment") == "deployment",
        facts=_facts(folder.run, config),
        versions=folder.run.get("versions", {}),
        classes=folder.run.get("classes", []),
        sites=folder.run.get("sites", []),
        test=folder.run.get("test") or {},
        headline=_headline(folder),
        headings=table.HEADINGS,
        results={name: table.cells(scores) for name, scores in folder.results.items()},
        federated=folder.results.get("Federated"),
        missing=_missing(folder),
        history=folder.history,
        site_rows=folder.sites,
        site_table=site_table(folder.sites),
        no_site_figures=no_site_figures(folder),
        grid=_grid(folder.sites),
        symbols=SYMBOLS,
        open_rows=_OPEN_ROWS,
        totals=_totals(folder),
        secure=_secure(folder),
        search=search_chapter(folder.path),
        privacy=privacy_account(folder.path, config),
        privacy_headings=HEADINGS,
        citation=CITATIONS.get(layout, ""),
        config_text=folder.config,
        evidence=folder.evidence,
        interval_cells=report_evidence.interval_cells(folder.evidence),
        class_cells=report_evidence.class_cells(folder.evidence),
        interval_note=report_evidence.interval_note(folder.evidence),
        matrix=report_evidence.matrix_facts(folder),
        no_matrix=report_evidence.no_matrix(folder),
        explanation=folder.explanation,
        explanation_labels=report_evidence.case_labels(folder.explanation),
        no_cases=report_evidence.no_cases(folder),
        plots={name: Markup(plot.svg) for name, plot in drawn.items()},
    )


def _facts(run: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, data = config.get("model", {}), config.get("data", {})
    size = f"{data['image_size']} × {data['image_size']}" if data.get("image_size") else ""  # noqa: RUF001
    best = f", best after round {run['best_round']}" if run.get("best_round") else ""
    facts = [
        ("Name", run.get("name", "")),
        ("Status", run.get("status", "")),
        ("Ended because", _ended(run.get("stopped"))),
        ("Started", str(run.get("started", "")).replace("T", " ")),
        ("Duration", _duration(run.get("seconds"))),
        ("Rounds", f"{run.get('rounds', 0)}{best}"),
        ("Sites", f"{len(run.get('sites', []))}, {run.get('deployment', '')}"),
        ("Strategy", run.get("strategy", "")),
        ("Model", f"{model.get('name', '')}, {_count(run.get('parameters'))} parameters"),
        ("Images", size),
        ("Shorter side as stored", _sides(run.get("image_sides") or {})),
        ("Seed", str(run.get("seed", ""))),
        ("Device", f"{run.get('device', '')}, {run.get('cpu_count', '?')} CPU cores"),
        ("Git commit", run.get("git_commit") or "unknown"),
        ("Config hash", run.get("config_hash", "")),
    ]
    return [(key, str(value)) for key, value in facts if value]


def _ended(stopped: Any) -> str:
    """Return why a run ended, in words."""
    return ENDS.get(stopped, stopped) if isinstance(stopped, str) else ""


def _sides(counts: Mapping[str, int]) -> str:
    """Return the histogram of image sizes in words, e.g. `512-1023: 40, 1024-2047: 7`."""
    return ", ".join(f"{name}: {_count(count)}" for name, count in counts.items() if count)


def _headline(folder: RunFolder) -> str:
    """Return the result in one sentence, or nothing without a test set."""
    federated = folder.results.get("Federated")
    if federated is None:
        return ""
    words = []
    alone = {
        name.removesuffix(" alone"): scores.mcc
        for name, scores in folder.results.items()
        if name.endswith(" alone")
    }
    if alone:
        best = max(alone, key=lambda name: alone[name])
        words.append(f"{_difference(federated.mcc - alone[best])} the best hospital alone ({best})")
    if "Pooled" in folder.results:
        gap = federated.mcc - folder.results["Pooled"].mcc
        words.append(f"{_difference(gap)} training on all data in one place")
    return f"The federated model's MCC lies {' and '.join(words)}." if words else ""


def _difference(gap: float) -> str:
    if abs(gap) < 0.0005:
        return "level with"
    return f"{abs(gap):.3f} {'above' if gap > 0 else 'below'}"


def _missing(folder: RunFolder) -> str:
    """Return which rows the result table lacks and why, in one sentence."""
    if not folder.results:
        return ""
    lacking = [] if any(n.endswith(" alone") for n in folder.results) else ["each hospital alone"]
    lacking += [] if "Pooled" in folder.results else ["pooled"]
    if not lacking:
        return ""
    if folder.run.get("deployment") == "deployment":
        return f"Not shown: {' and '.join(lacking)}; in a deployment the data stay apart."
    asked = "[alone,pooled]" if len(lacking) == 2 else f"[{lacking[0].split()[-1]}]"
    return f"Not shown: {' and '.join(lacking)}; train with baselines={asked} to compare."


def _grid(rows: list[Row]) -> dict[str, Any]:
    """Return who did what in which round: {rounds, lines: site -> [(symbol, words)]}."""
    rounds = list(dict.fromkeys(row["round"] for row in rows))
    cells = {(row["site"], row["round"]): _symbol(row) for row in rows}
    blank = ("", "no message")
    names = dict.fromkeys(row["site"] for row in rows)
    lines = {name: [cells.get((name, number_), blank) for number_ in rounds] for name in names}
    return {"rounds": rounds, "lines": lines}


def _symbol(row: Row) -> tuple[str, str]:
    status = row.get("status", "")
    if status == "ok" and flag(row, "stopped_early"):
        return SYMBOLS["stopped"]
    if status in ("ok", "evaluated"):
        return SYMBOLS[status]
    reason = f": {row['reason']}" if row.get("reason") else ""
    return SYMBOLS["failed"][0], f"{status}{reason}"


def _totals(folder: RunFolder) -> list[tuple[str, str]]:
    """Return the sums under the timings."""
    history = folder.history
    if not history:
        return []
    seconds = _sum(history, "seconds")
    outside = _sum(history, "seconds_outside_training")
    up, down = _sum(history, "bytes_up"), _sum(history, "bytes_down")
    speed = np.array([number(row, "images_per_second") for row in history])
    mean_speed = f"{np.nanmean(speed):.0f}" if np.isfinite(speed).any() else table.DASH
    return [
        ("Whole run", _duration(folder.run.get("seconds"))),
        ("All rounds", _duration(seconds)),
        ("Outside training", f"{_duration(outside)} ({outside / len(history):.1f} s a round)"),
        ("Images per second", mean_speed),
        ("Sent by the sites", f"{table.size(up)} ({table.size(up / len(history))} a round)"),
        ("Sent to the sites", f"{table.size(down)} ({table.size(down / len(history))} a round)"),
    ]


def _secure(folder: RunFolder) -> dict[str, Any]:
    """Return the account of the secure sums; nothing where the run has none."""
    rows = folder.secure.rows
    if not rows:
        return {}
    return {
        "headline": secure_account.headline(folder.secure),
        "sheets": secure_account.sheets(rows),
        "audited": any(row.audit_error is not None for row in rows),
        "chapters": secure_account.account(rows, one_machine=folder.one_machine),
    }


def _sum(rows: list[Row], key: str) -> float:
    return float(np.nansum([number(row, key) for row in rows]))


def _duration(seconds: Any) -> str:
    if seconds is None:
        return ""
    value = float(seconds)
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _count(value: Any) -> str:
    if value is None:
        return table.DASH
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _cell(row: Mapping[str, str], key: str, digits: int = 3) -> str:
    return table.figure(number(row, key), digits)
