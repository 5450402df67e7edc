"""`pf.evaluate`, `pf.predict` and `pf.compare`: what the commands of these names do."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from primia_flwr.api.calls import call
from primia_flwr.api.results import ComparedRuns, Evaluation, PredictedImages
from primia_flwr.api.words import AnyPath, Setting, as_path
from primia_flwr.errors import ConfigError


def evaluate(
    run: AnyPath, *settings: Setting, data: AnyPath | None = None, quiet: bool = True
) -> Evaluation:
    """Score a run's model on labelled images; it is `primia evaluate`.

    Parameters
    ----------
    run : path or TrainedRun
        The run, or a folder with a saved model.
    *settings : str or mapping
        As of `pf.train`; `primia evaluate --help` lists the keys, e.g. `"saliency=2"`.
    data : path, optional
        A folder of images with a folder for each class; by default the run's own test set.
    quiet : bool
        Print nothing but warnings; False prints the tables of the command.

    Raises
    ------
    PrimiaError
        One sentence: the key or file, its value, what is expected, the remedy.

    Examples
    --------
    >>> scored = pf.evaluate(run)                      # its own test set
    >>> scored = pf.evaluate(run, data="hospital-b")
    >>> scored = pf.evaluate(run, {"data.manifest": "hospital-b.csv"})
    >>> scored.figures["mcc"], scored.n, scored.folder
    """
    from primia_flwr.cli.analysis.evaluate import COMMAND
    from primia_flwr.runs.folder import read_object

    keys = {"run": as_path("run", run), "quiet": quiet, **_root(data)}
    result = call(COMMAND, *settings, keys)
    values = read_object(Path(result["output"]) / "metrics.json")
    known = ("run", "output", "n", "synthetic")
    return Evaluation(
        folder=Path(result["output"]),
        n=result["n"],
        figures={name: value for name, value in result.items() if name not in known},
        notes=tuple(values.get("notes", ())),
        warning=values.get("warning", ""),
        synthetic=result["synthetic"],
    )


def predict(
    run: AnyPath,
    data: AnyPath,
    *settings: Setting,
    output_dir: AnyPath | None = None,
    quiet: bool = True,
) -> PredictedImages:
    """Classify images without labels by a run's model; it is `primia predict`.

    Parameters
    ----------
    run : path or TrainedRun
        The run, or a folder with a saved model.
    data : path
        One image, or a folder of them.
    *settings : str or mapping
        As of `pf.train`; `primia predict --help` lists the keys, e.g. `"frames=mean"`.
    output_dir : path, optional
        A new folder for the tables; by default `predictions/<date>_<time>`.
    quiet : bool
        Print nothing; False shows a bar and names skipped files.

    Raises
    ------
    PrimiaError
        One sentence: the key or file, its value, what is expected, the remedy. A single file that
        cannot be read is no error but one of `skipped`.

    Examples
    --------
    >>> predicted = pf.predict(run, "today")
    >>> for image in predicted.images:
    ...     print(image["file"], image["prediction"], image["p_normal"])
    >>> predicted.skipped
    """
    from primia_flwr.cli.analysis.predict import COMMAND
    from primia_flwr.runs.folder import read_object

    keys = {"run": as_path("run", run), "quiet": quiet, "data.root": as_path("data", data)}
    if output_dir is not None:
        keys["output"] = as_path("output_dir", output_dir)
    folder = Path(call(COMMAND, *settings, keys)["output"])
    values = read_object(folder / "predictions.json")
    return PredictedImages(
        folder=folder,
        classes=tuple(values["classes"]),
        images=tuple(values["predictions"]),
        skipped=values["skipped"],
    )


def compare(
    runs: Mapping[str, AnyPath] | Sequence[AnyPath],
    *settings: Setting,
    data: AnyPath | None = None,
    output_dir: AnyPath | None = None,
    quiet: bool = True,
) -> ComparedRuns:
    """Compare models, and perhaps people, on the same images; it is `primia compare`.

    Every interval and test counts patients, not images.

    Parameters
    ----------
    runs : sequence or mapping
        Runs of one data set and seed, or their folders; a mapping gives them names.
    *settings : str or mapping
        As of `pf.train`; `primia compare --help` lists the keys, e.g. `"experts=experts.csv"`.
    data : path, optional
        Images for all of them; by default the test set that they have in common.
    output_dir : path, optional
        Where tables, pictures and page go; by default `comparison` in the first run's folder.
    quiet : bool
        Print nothing but warnings; False prints the tables of the command.

    Raises
    ------
    PrimiaError
        One sentence: the key or file, its value, what is expected, the remedy.

    Examples
    --------
    >>> compared = pf.compare([run])                   # with its own baselines
    >>> compared = pf.compare({"secure": one, "plain": other}, "baselines=[]")
    >>> compared.answer
    >>> compared.report
    """
    from primia_flwr.cli.analysis.compare import COMMAND
    from primia_flwr.runs.folder import read_object

    keys = {**_runs(runs), "quiet": quiet, **_root(data)}
    if output_dir is not None:
        keys["output"] = as_path("output_dir", output_dir)
    result = call(COMMAND, *settings, keys)
    folder = Path(result["output"])
    values = read_object(folder / "comparison.json")
    return ComparedRuns(
        folder=folder,
        report=Path(result["report"]),
        answer=result.get("answer", ""),
        figures=values.get("figures", {}),
        values=values,
    )


def _root(data: AnyPath | None) -> dict[str, object]:
    return {} if data is None else {"data.root": as_path("data", data)}


def _runs(runs: object) -> dict[str, object]:
    """Return the keys that name the runs, and perhaps their columns."""
    if isinstance(runs, Mapping):
        return {"runs": [as_path("runs", run) for run in runs.values()], "names": [*runs]}
    if isinstance(runs, Sequence) and not isinstance(runs, str | bytes):
        return {"runs": [as_path("runs", run) for run in runs]}
    if not isinstance(runs, str) and not hasattr(runs, "__fspath__"):
        raise ConfigError(
            f"runs={runs!r:.60}; expected a list of runs, or a mapping of names to runs, e.g. "
            "pf.compare([one, other])"
        )
    return {"runs": [as_path("runs", runs)]}
