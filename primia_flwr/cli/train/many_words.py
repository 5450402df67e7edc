"""The words of `primia train -m`, checked before anything large is imported."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, without_sweep
from primia_flwr.config.search.sweep import COMMAND_FILE
from primia_flwr.config.typed import quoted, typed
from primia_flwr.errors import ConfigError
from primia_flwr.pipeline.needed import check_extras, check_new_folder
from primia_flwr.storage.reading import parse_json, read_text

_RESUME = "sweep.resume="


def checked_words(words: Sequence[str], *, search: bool = False) -> list[str]:
    """Return the words of many runs as Hydra reads them; of a search, whose trials nobody scores.

    Raises
    ------
    ConfigError
        If a word is not understood, or the folder holds runs.
    MissingExtraError, TrackingError
        As `check_extras`.
    """
    asked = typed(resumed_words(words) if search else words, Experiment, sweep=True)
    _check_words(asked, search=search)
    if not any(word.startswith(_RESUME) for word in asked):
        _check_folder(asked)
    return asked


def resumed_words(words: Sequence[str]) -> list[str]:
    """Return the overrides of a search; with `sweep.resume`, after those that began it.

    A key that is given again counts instead of the earlier one.

    Raises
    ------
    ConfigError
        If the folder in `sweep.resume` holds no search, or none is asked for at all.
    """
    asked = [word.removeprefix(_RESUME) for word in words if word.startswith(_RESUME)]
    if not asked or not asked[-1]:
        if not any(word.startswith("sweep=") for word in words):
            raise ConfigError(
                f"{next(word for word in words if word.startswith('sweep.'))} without a search; "
                "expected sweep=<choice> as well, e.g. sweep=demo"
            )
        return list(words)
    folder = Path(asked[-1]).expanduser().resolve()
    known = None
    with suppress(OSError, ValueError):
        known = parse_json(read_text(folder / COMMAND_FILE))
    known = known.get("overrides") if isinstance(known, dict) else None
    if not isinstance(known, list):
        raise ConfigError(
            f"sweep.resume={asked[-1]}; expected the folder of a search (with a {COMMAND_FILE}), "
            "e.g. sweep.resume=outputs/2026-11-21/12-00-00-pneumonia"
        )
    given = [word for word in words if not word.startswith(_RESUME)]
    merged = {word.partition("=")[0]: word for word in (*map(str, known), *given)}
    text = quoted(str(folder))
    return [*merged.values(), f"{_RESUME}{text}", f"hydra.sweep.dir={text}"]


def _check_folder(overrides: Sequence[str]) -> None:
    """Refuse a folder for the jobs that holds runs, before Hydra writes into it."""
    own = [word for word in overrides if word.startswith("hydra.sweep.dir=")]
    if own:
        cfg = compose("config", own, return_hydra_config=True)
        check_new_folder(Path(str(cfg.hydra.sweep.dir)), "hydra.sweep.dir")


def _check_words(words: Sequence[str], *, search: bool) -> None:
    """Refuse runs that would end at something that is missing, before Hydra makes their folder.

    What varies is left out. Words that are wrong without it are left to each job, whose reason is
    one of the results.
    """
    overrides = OverridesParser.create().parse_overrides(list(words))
    varied = [str(o.input_line) for o in overrides if o.is_sweep_override()]
    if search and varied:
        raise ConfigError(
            f"{varied[0]} lists several values in a search; expected one: sweep.space says what "
            "varies; without sweep=<choice>, primia train -m runs every combination of lists"
        )
    fixed = [word for word in words if word not in varied]
    try:
        experiment = parse(Experiment, without_sweep(compose("config", fixed)))
    except ConfigError:
        if varied:
            return
        raise
    check_extras(experiment, scored=not search)
