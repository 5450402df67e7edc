"""`primia train -m`: Hydra's own sweep over lists; one line of JSON at the end."""

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hydra
import yaml
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from primia_flwr.cli.command import mistake
from primia_flwr.cli.train.many_words import checked_words
from primia_flwr.config.load import with_search_path
from primia_flwr.config.parsing import explain
from primia_flwr.config.root import app_root
from primia_flwr.config.typed import quoted
from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.storage.reading import read_text, reason_of

# Hydra says nothing, and leaves everybody's loggers as they are.
_SILENT = tuple(
    word
    for kind in ("hydra_logging", "job_logging")
    for word in (f"hydra/{kind}=disabled", f"hydra.{kind}.disable_existing_loggers=false")
)
_Job = Callable[[DictConfig, Path], dict[str, Any]]
COMMAND_FILE = "multirun.yaml"  # Hydra's, with the words that began the sweep


def run_multirun(overrides: Sequence[str], job: _Job) -> dict[str, Any]:
    """Sweep over the values that the overrides list, one job after the other.

    Returns
    -------
    dict
        As `run_jobs`.

    Raises
    ------
    PrimiaError
        If the sweep cannot start. A job that fails is one of the results, with its reason.
    """
    return run_jobs(checked_words(overrides), job)


def words_of(folder: Path) -> list[str]:
    """Return the words that began the sweep in a folder, for the same folder.

    Raises
    ------
    ConfigError
        If it holds no sweep over lists.
    """
    known: Any = None
    with suppress(OSError, ValueError, yaml.YAMLError):
        known = yaml.safe_load(read_text(folder / COMMAND_FILE))
    for key in ("hydra", "overrides", "task"):
        known = known.get(key) if isinstance(known, dict) else None
    plain = isinstance(known, list) and all(isinstance(word, str) for word in known)
    if not plain or any(word.startswith(("sweep=", "sweep.")) for word in known):
        raise ConfigError(
            f"resume={folder} with -m; expected the folder of a sweep (with a {COMMAND_FILE}), "
            "e.g. resume=outputs/2026-11-21/12-00-00-demo; a search goes on by "
            "sweep.resume=<folder>"
        )
    return [*known, f"hydra.sweep.dir={quoted(str(folder.resolve()))}"]


def go_on(folder: Path, own: Sequence[str], job: _Job) -> dict[str, Any]:
    """Go on with the sweep in a folder; `own` words count in place of those that began it.

    Returns
    -------
    dict
        As `run_jobs`.

    Raises
    ------
    PrimiaError
        If the folder holds no sweep, or one that is still running.
    """
    merged = {word.partition("=")[0]: word for word in (*words_of(folder), *own)}
    with _only_one(folder):
        return run_jobs(list(merged.values()), job, locked=True)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold a sweep's folder; its jobs are given to one process at a time."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ConfigError(
            f"{folder} is in use by another primia train -m; wait for it, or begin a new sweep"
        ) from None


def run_jobs(words: Sequence[str], job: _Job, *, locked: bool = False) -> dict[str, Any]:
    """Run the jobs of a sweep whose words were checked, and whose folder may be held already.

    Returns
    -------
    dict
        `runs`: what each job returned, with its overrides; `ok`: whether all succeeded.

    Raises
    ------
    PrimiaError
        If the sweep cannot start. A job that fails is one of the results, with its reason.
    """
    results: list[dict[str, Any]] = []
    folder: Path | None = None

    def task(cfg: DictConfig) -> None:
        nonlocal folder
        runtime = HydraConfig.get()
        if folder is None and not (locked or cfg.dry_run):
            held.enter_context(_only_one(Path(runtime.sweep.dir)))
        folder = Path(runtime.sweep.dir)
        result: dict[str, Any] = {"overrides": list(runtime.overrides.task)}
        try:
            result |= job(cfg, Path(runtime.runtime.output_dir))
        except PrimiaError as error:
            result |= {"ok": False, "error": str(error)}
            mistake(error)
        except Exception as error:  # a bug in one job hides no other job
            traceback.print_exc()
            result |= {"ok": False, "error": f"{type(error).__name__}: {reason_of(error)}"}
        results.append(result)

    with ExitStack() as held:
        try:
            enter_hydra(words, task)
        except KeyboardInterrupt:
            if folder is not None:
                print(f"the sweep goes on with primia train -m resume={folder}", file=sys.stderr)
            raise
    return {"runs": results, "ok": all(result.get("ok", True) for result in results)}


def enter_hydra(overrides: Sequence[str], task: Callable[[DictConfig], Any]) -> None:
    """Let Hydra run `task` once for each job of a sweep.

    Raises
    ------
    PrimiaError
        What a job or a sweeper raised, or one sentence for an error of Hydra.
    """
    arguments = ["primia train", "--multirun", *_SILENT, *with_search_path(overrides)]
    entry = hydra.main(
        version_base="1.3", config_path=str(app_root() / "conf"), config_name="config"
    )
    root = logging.getLogger()
    level = root.level  # which Hydra sets
    with patch.object(sys, "argv", arguments), patch.dict("os.environ", {"HYDRA_FULL_ERROR": "1"}):
        try:
            entry(task)()
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError(explain(error)) from None
        except OSError as error:
            raise ConfigError(
                f"{error.filename} cannot be written ({error.strerror}); expected a folder that "
                "can be made; give another by hydra.sweep.dir=<folder>"
            ) from None
        finally:
            root.setLevel(level)
