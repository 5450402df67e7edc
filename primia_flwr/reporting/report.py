"""`report.html`: one self-contained page that says what was run and what came of it.

The page is a function of the run folder: it can be written again at any time, and it shows no
figure that is not in a file beside it.
"""

from collections.abc import Mapping
from pathlib import Path

from primia_flwr.plotting import Plot
from primia_flwr.reporting import page
from primia_flwr.reporting.chapters.answer import answers
from primia_flwr.reporting.chapters.evidence import cases_chapter, matrix_chapter
from primia_flwr.reporting.chapters.privacy import HEADINGS, privacy_account
from primia_flwr.reporting.chapters.results import results_chapter
from primia_flwr.reporting.chapters.rounds import rounds_chapter
from primia_flwr.reporting.chapters.run import cost_chapter, run_chapter
from primia_flwr.reporting.chapters.search import search_chapter
from primia_flwr.reporting.chapters.secure import secure_chapter
from primia_flwr.reporting.chapters.sets import sets_chapter
from primia_flwr.reporting.chapters.summed import summed_validation
from primia_flwr.reporting.plots import evidence, run
from primia_flwr.reporting.plots.saliency import saliency_plots
from primia_flwr.runs.folder import RunFolder, plain_values, read_run_folder
from primia_flwr.storage.atomic import write_result

_OPEN_ROWS = 24  # a longer table is folded


def write_report(run_dir: Path) -> Path:
    """Write `report.html` and `plots/*.svg` into an output folder and return the page's path.

    Raises
    ------
    DataError
        If the folder is no output folder or one of its files cannot be read.
    """
    folder = read_run_folder(run_dir)
    drawn = _draw(folder)
    (run_dir / "plots").mkdir(exist_ok=True)
    for plot in drawn.values():
        write_result(run_dir / "plots" / f"{plot.name}.svg", plot.svg)
    write_result(run_dir / "report.html", _render(folder, drawn))
    return run_dir / "report.html"


def _draw(folder: RunFolder) -> dict[str, Plot]:
    """Return every plot that the folder has the figures for, by name."""
    drawn: list[Plot | None] = []
    task, federated = folder.task, folder.results.get("Federated")
    if any(row.get("train_loss") or row.get("val_loss") for row in folder.history):
        drawn.append(
            run.global_curves(folder.history, task, int(folder.run.get("best_round") or 0))
        )
    if folder.history:
        drawn.append(run.timings(folder.history))
    if any(row.get(metric.column) for row in folder.sites for metric in task.watched):
        drawn.append(run.site_curves(folder.sites, task.aim, task.loss_words))
    if federated:
        drawn += task.judge.plots(federated, folder.predictions, folder.evidence)
    if len(folder.results) > 1:
        drawn.append(run.comparison(folder.results, task.judge.headlined, task.aim))
    if folder.evidence:
        drawn.append(evidence.intervals(folder.evidence, task.judge.headlined, task.aim))
    if folder.matrix and folder.matrix.sites:
        drawn.append(evidence.cross_site(folder.matrix, task.aim))
    drawn += saliency_plots(folder.explanation) if folder.explanation else []
    return {plot.name: plot for plot in drawn if plot}


def _render(folder: RunFolder, drawn: Mapping[str, Plot]) -> str:
    """Return the page as text."""
    config = plain_values(folder.config)
    account, summed = privacy_account(folder.path, config), summed_validation(folder)
    return page.render(
        "report.html",
        run=folder.run,
        plots=drawn,
        config_text=folder.config,
        open_rows=_OPEN_ROWS,
        aim=folder.task.aim,
        **run_chapter(folder, config),
        answers=answers(folder, account, summed),
        **results_chapter(folder, summed),
        **sets_chapter(folder.path),
        **cases_chapter(folder),
        **rounds_chapter(folder),
        **matrix_chapter(folder),
        search=search_chapter(folder.path, folder.task),
        privacy=account,
        privacy_headings=HEADINGS,
        secure=secure_chapter(folder),
        totals=cost_chapter(folder),
    )
