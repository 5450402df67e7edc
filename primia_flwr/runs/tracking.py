"""Weights & Biases behind one door: the only module that imports wandb, and only to send.

What is sent is a copy of what the run's folder holds, so whatever goes wrong here is a warning and
ends no run; only a wrong key or setting is an error, at the begin. What W&B
gathers on its own (host name, user, command line, code, hardware, crash reports) is switched off,
and a W&B that does not know one of the switches gets nothing.
"""

import logging
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.tracking import TrackingConfig
from primia_flwr.errors import TrackingError
from primia_flwr.runs.tracking_mode import resolve_mode
from primia_flwr.storage.reading import reason_of

logger = logging.getLogger(__name__)

_SETTINGS: dict[str, Any] = {
    "silent": True, "quiet": True, "console": "off", "save_code": False, "disable_code": True,
    "disable_git": True, "disable_job_creation": True, "x_disable_meta": True,
    "x_disable_stats": True, "x_disable_machine_info": True, "x_disable_viewer": True,
    "x_save_requirements": False, "host": "not-said", "username": "not-said",
    "program": "primia", "program_relpath": "primia", "program_abspath": "primia",
    "init_timeout": 30, "finish_timeout": 60,
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What is sent of a run, and nothing else.

    `curves`: by site, of the coordinator under "", the values of each `round`. `tables`: by name,
    the headings first. `model`: its files. `words`: of the summary, e.g. its status.
    Values that are None or NaN are left out.
    """

    config: Mapping[str, Any]
    curves: Mapping[str, Sequence[Mapping[str, float | None]]]
    tables: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)
    summary: Mapping[str, float | None] = field(default_factory=dict)
    model: Sequence[Path] = ()
    words: Mapping[str, str] = field(default_factory=dict)


class Tracked:
    """One W&B run, of the coordinator or of a site, from its begin to its end.

    All of its files go below `<run_dir>/wandb`; begun again, it goes on under the same id.

    Parameters
    ----------
    cfg : TrackingConfig
        What and where.
    run_dir : Path
        The run's folder.
    mode : str
        `online`, `offline` or `disabled`, as `resolve_mode` says.
    name, site : str
        What it is called; the site, empty for the coordinator.
    config : mapping
        The settings that are shown.

    Raises
    ------
    TrackingError
        If W&B refuses the key or the settings.
    """

    def __init__(
        self,
        cfg: TrackingConfig,
        run_dir: Path,
        mode: str,
        *,
        name: str = "",
        site: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        folder = run_dir.resolve()
        self._home, self._with_model = folder / "wandb", cfg.model
        self._run: Any = None
        self.mode = mode
        if mode != "disabled":
            job = "site" if site else "coordinator"
            about = {"dir": str(folder), "name": site or name or folder.name, "job_type": job}
            with _environment(self._home, offline=mode == "offline"):
                config = {"site": site} if site else dict(config or {})
                self._run, self.mode = _begin(cfg, mode, {**about, "config": config})

    def log(self, point: Mapping[str, float | None]) -> None:
        """Send the values of one `round`."""
        if self._run is not None and len(known := _known(point)) > 1:
            with _guard("a round"):
                self._run.log(known)

    def end(self, record: "Record | None" = None, *, failed: bool = False) -> None:
        """Send what stands at the end, and close; never an error."""
        run, self._run = self._run, None
        if run is None:
            return
        with _environment(self._home, offline=self.mode == "offline"):
            if record is not None:
                _send_end(run, record, with_model=self._with_model)
            with _guard("the end of the run"):
                run.finish(exit_code=int(failed))


def send(record: Record, cfg: TrackingConfig, run_dir: Path, *, name: str = "") -> None:
    """Send a whole W&B run called `name` and, if `tracking.sites` asks for it, one of each site.

    Raises
    ------
    MissingExtraError, TrackingError
        As `resolve_mode`; or if W&B refuses the key.
    """
    mode = resolve_mode(cfg)
    for site in record.curves if cfg.sites else [""]:
        tracked = Tracked(cfg, run_dir, mode, name=name, site=site, config=record.config)
        mode = tracked.mode
        for point in record.curves.get(site, ()):
            tracked.log(point)
        tracked.end(None if site else record)


def _begin(cfg: TrackingConfig, mode: str, about: dict[str, Any]) -> tuple[Any, str]:
    """Return a W&B run and its mode: offline where no server is reached; None where both fail."""
    kept = Path(about["dir"], "wandb", _plain("{job_type}-{name}.id".format_map(about)))
    with _guard("the start"):
        return _open(cfg, mode, kept, about), mode
    if mode == "online":
        logger.warning("tracking goes on offline; upload later with wandb sync")
        with _guard("the offline start"):
            kept.unlink(missing_ok=True)  # the first id is taken till the process ends
            return _open(cfg, "offline", kept, about), "offline"
    return None, mode


def _open(cfg: TrackingConfig, mode: Any, kept: Path, about: dict[str, Any]) -> Any:
    import wandb

    try:
        run = wandb.init(
            **about, project=cfg.project, entity=cfg.entity or None, tags=list(cfg.tags), mode=mode,
            group=cfg.group or _group(Path(about["dir"])), id=_identity(kept), reinit="create_new",
            resume="allow" if mode == "online" else None, settings=wandb.Settings(**_SETTINGS),
        )  # fmt: skip
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise TrackingError(
            f"tracking.mode={cfg.mode}: W&B refuses the key or the settings ({reason_of(error)}); "
            "expected a valid WANDB_API_KEY; correct it, or set tracking.mode=offline"
        ) from None
    run.define_metric("round")
    run.define_metric("*", step_metric="round")
    return run


def _send_end(run: Any, record: Record, *, with_model: bool) -> None:
    from wandb import Artifact, Table

    for name, rows in record.tables.items():
        with _guard(f"table {name}"):
            columns, *data = map(list, rows)
            run.log({name: Table(columns, data, allow_mixed_types=True)})
    with _guard("the summary"):
        run.summary.update({**_known(record.summary), **record.words})
    with _guard("the model"):
        if record.model and with_model:
            artifact = Artifact(_plain(f"model-{run.name}")[:128], type="model")
            for path in record.model:
                artifact.add_file(str(path))
            run.log_artifact(artifact)


@contextmanager
def _environment(home: Path, *, offline: bool) -> Iterator[None]:
    """Keep all that W&B writes below a folder, and W&B silent; offline, it sees no key."""
    wanted = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    for kind in ("cache", "data", "config", "artifact"):
        wanted[f"WANDB_{kind.upper()}_DIR"] = str(home / kind)
    hidden = ("WANDB_API_KEY",) if offline else ()
    before = {key: os.environ[key] for key in (*wanted, *hidden) if key in os.environ}
    os.environ.update(wanted)
    for key in hidden:
        os.environ.pop(key, None)
    try:
        yield
    finally:
        for key in wanted:
            del os.environ[key]
        os.environ.update(before)


@contextmanager
def _guard(what: str) -> Iterator[None]:
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        said = "tracking: %s could not be recorded (%s); the run goes on, its folder has all of it"
        logger.warning(said, what, reason_of(error))


def _group(folder: Path) -> str:
    """Return the group of a run: its folder; of a job of a sweep, the sweep's."""
    return (folder.parent if folder.name.isdigit() else folder).name[:128]


def _identity(path: Path) -> str:
    """Return the id in a file; a new one where there is none, or somebody changed the file."""
    known = path.read_bytes().strip() if path.is_file() else b""
    if not re.fullmatch(rb"[0-9a-f]{16}", known):
        path.parent.mkdir(parents=True, exist_ok=True)
        known = secrets.token_hex(8).encode()
        path.write_bytes(known)
    return known.decode("ascii")


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {k: v for k, v in values.items() if v is not None and math.isfinite(v)}


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)
