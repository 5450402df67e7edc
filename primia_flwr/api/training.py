"""`pf.train` and `pf.open_run`: what `primia train` does, and what a run left."""

from pathlib import Path

from primia_flwr.api.calls import call
from primia_flwr.api.results import TrainedRun
from primia_flwr.api.words import AnyPath, Setting, as_path, as_words
from primia_flwr.errors import ConfigError


def train(*settings: Setting, output_dir: AnyPath | None = None, quiet: bool = False) -> TrainedRun:
    """Train one model over several sites and return the finished run.

    It is `primia train`: simulated sites on this machine, or the real ones of a federation with
    `deployment=<name>`. Flower's own programs run beside this process.

    Parameters
    ----------
    *settings : str or mapping
        What differs from the defaults, as words (`"federation.rounds=3"`) or as a mapping
        (`{"federation.rounds": 3, "data.root": folder}`), whose values need no quotes.
        `primia train --help=all` lists every key. Later ones win.
    output_dir : path, optional
        A new folder for all that comes of it; by default `outputs/<date>/<time>-<name>`.
    quiet : bool
        Print nothing. By default a line a round on standard error, and the table at the end.

    Returns
    -------
    TrainedRun
        Its folder, report, figures and history.

    Raises
    ------
    PrimiaError
        One sentence: the key or file, its value, what is expected, the remedy.

    Examples
    --------
    Three simulated hospitals, radiographs drawn by formula, compared with all images in one place:

    >>> import primia_flwr as pf
    >>> run = pf.train("experiment=demo", "baselines=[centralised]")
    >>> run.figures["mcc"], run.baselines["Centralised"]["mcc"]
    >>> run.report

    Your own images, one folder a class, and a smaller model:

    >>> run = pf.train("model=simpleconv", {"data.root": "my scans", "federation.rounds": 10})

    Go on with a run that was stopped:

    >>> run = pf.train({"resume": "outputs/2026-11-21/12-00-00-demo"})
    """
    from primia_flwr.cli.train.train import COMMAND, of_one_run

    keys: dict[str, object] = {"quiet": True} if quiet else {}
    if output_dir is not None:
        keys["output_dir"] = as_path("output_dir", output_dir)
    result = call(COMMAND, *of_one_run(as_words(settings)), keys)
    if "run" not in result:
        raise ConfigError(
            "dry_run=true trains nothing, so there is no run to return; expected a training; "
            "primia train dry_run=true prints the plan"
        )
    return open_run(result["run"])


def open_run(folder: AnyPath) -> TrainedRun:
    """Return a run that `pf.train` or `primia train` has left in a folder.

    Raises
    ------
    PrimiaError
        If there is none, or a file of it cannot be read.

    Examples
    --------
    >>> run = pf.open_run("outputs/2026-11-21/12-00-00-demo")
    >>> [row["val_mcc"] for row in run.history]
    """
    from primia_flwr.runs.folder import number, read_run_folder

    path = Path(as_path("folder", folder)).expanduser().resolve()
    found = read_run_folder(path)
    figures = {name: scores.figures() for name, scores in found.results.items()}
    history = tuple(
        {key: None if (x := number(row, key)) != x else x for key in row} for row in found.history
    )
    return TrainedRun(
        folder=path,
        report=path / "report.html",
        figures=figures.pop("Federated", {}),
        baselines=figures,
        history=history,
        best_round=int(found.run.get("best_round") or 0),
        seconds=float(found.run.get("seconds") or 0),
        synthetic=bool(found.run.get("synthetic")),
    )
