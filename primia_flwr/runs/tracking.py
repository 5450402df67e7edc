"""Weights & Biases behind one door: the only module that imports wandb, and only on `start`.

A run is tracked as one group: the coordinator as one W&B run and, if asked for, each site as
another. Tracking is a copy of what the run folder already holds, so nothing that goes wrong
here may end a training: failures are logged as warnings. Only a wrong configuration (online
without a key, a key that is none) is an error, raised before the training starts.

What W&B gathers on its own (host name, user, command line, source code, hardware readings,
crash reports) is switched off: a hospital's machine reports what the run logs, nothing else.
"""

from __future__ import annotations

import logging
import math
import netrc
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlparse

from primia_flwr.config.experiment.tracking import TRACKING_MODES, TrackingConfig
from primia_flwr.errors import TrackingError

logger = logging.getLogger(__name__)

_IDENTITY = re.compile(rb"[0-9a-f]{16}")
_SETTINGS = {
    "silent": True,
    "quiet": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_disable_viewer": True,
    "init_timeout": 30,
    "finish_timeout": 60,
}


class Tracker:
    """One W&B run: `start`, then log, then `finish` (or use it as a context manager).

    Parameters
    ----------
    cfg : TrackingConfig
    run_dir : Path
        The run's output folder; all of W&B's files go below `<run_dir>/wandb`.
    name : str
        Name of this W&B run; empty: the name of the run folder.
    job_type : str
        `coordinator`, or `site` for one site's own curves.
    """

    def __init__(
        self, cfg: TrackingConfig, run_dir: Path, *, name: str = "", job_type: str = "coordinator"
    ) -> None:
        self._cfg = cfg
        self._run_dir = run_dir.resolve()
        self._name = name or self._run_dir.name
        self._job_type = job_type
        self._run: Any = None
        self._wandb: Any = None
        self._stack = ExitStack()
        self._sites: dict[str, Tracker] = {}
        self._warned: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether W&B takes what is logged."""
        return self._run is not None

    def start(self, config: Mapping[str, Any] | None = None) -> Self:
        """Begin the W&B run; `config` is the resolved experiment as plain values.

        A run that was started in this folder before goes on under the same id.

        Raises
        ------
        TrackingError
            If online tracking is asked for and there is no usable key.
        """
        mode = resolve_mode(self._cfg)
        if mode == "disabled" or self.active:
            return self
        self._stack.enter_context(_environment(self._run_dir))
        try:
            self._run = self._init(mode, dict(config or {}))
        except BaseException:
            self._stack.close()
            raise
        if self._run is None:
            self._stack.close()
        return self

    def log_round(self, round_: int, values: Mapping[str, float | None]) -> None:
        """Add one point to every curve named in `values`; entries of None or NaN are left out."""
        with self._guard("a round"):
            if self.active:
                self._run.log({"round": round_, **_numbers(values)})

    def log_site(self, site: str, round_: int, values: Mapping[str, float | None]) -> None:
        """Add one point to the curves of a site's own W&B run, if `tracking.sites` asks for it."""
        if not (self.active and self._cfg.sites):
            return
        if site not in self._sites:
            tracker = Tracker(self._cfg, self._run_dir, name=site, job_type="site")
            self._sites[site] = tracker.start({"site": site})
        self._sites[site].log_round(round_, values)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table, e.g. `rounds`, `sites` or `results`: `rows` with one value a column."""
        with self._guard(f"table {name}"):
            if self.active:
                data = [list(row) for row in rows]
                table = self._wandb.Table(list(columns), data, allow_mixed_types=True)
                self._run.log({name: table})

    def log_summary(self, values: Mapping[str, float | str | None]) -> None:
        """Set the run's final figures."""
        with self._guard("the summary"):
            if self.active:
                self._run.summary.update({k: v for k, v in values.items() if v is not None})

    def log_model(self, paths: Sequence[Path], metadata: Mapping[str, Any] | None = None) -> None:
        """Keep the files of the trained model as one artifact, if `tracking.model` says so."""
        with self._guard("the model"):
            if self.active and self._cfg.model:
                name = re.sub(r"[^A-Za-z0-9._-]", "-", f"model-{self._name}")[:128]
                artifact = self._wandb.Artifact(name, type="model", metadata=dict(metadata or {}))
                for path in paths:
                    artifact.add_file(str(path))
                self._run.log_artifact(artifact)

    def finish(self, *, ok: bool = True) -> None:
        """End the run (`ok=False`: as failed); a second call does nothing."""
        for tracker in self._sites.values():
            tracker.finish(ok=ok)
        self._sites.clear()
        run, self._run = self._run, None
        with self._guard("the end of the run"):
            if run is not None:
                run.finish(exit_code=0 if ok else 1)
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(ok=error is None)

    def _init(self, mode: str, config: dict[str, Any]) -> Any:
        try:
            import wandb

            self._wandb = wandb
            return self._open(mode, config)
        except Exception as error:
            if self._wandb is not None and isinstance(error, _mistakes(self._wandb)):
                raise TrackingError(
                    f"tracking.mode={self._cfg.mode}: W&B refuses the key or the settings "
                    f"({_first_line(error)}); expected a valid WANDB_API_KEY; correct it, or set "
                    "tracking.mode=offline"
                ) from None
            self._warn("the start", error)
        if mode != "online":
            return None
        logger.warning("tracking goes on offline; upload later with wandb sync")
        with self._guard("the offline start"):
            self._identity_file().unlink(missing_ok=True)  # the first id is taken till the end
            return self._open("offline", config)
        return None

    def _open(self, mode: str, config: dict[str, Any]) -> Any:
        known = self._wandb.Settings.model_fields
        run = self._wandb.init(
            project=self._cfg.project,
            entity=self._cfg.entity or None,
            group=self._cfg.group or self._run_dir.name,
            job_type=self._job_type,
            name=self._name,
            tags=list(self._cfg.tags),
            config=config,
            dir=str(self._run_dir),
            id=self._identity(),
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=self._wandb.Settings(**{k: v for k, v in _SETTINGS.items() if k in known}),
        )
        run.define_metric("round")
        run.define_metric("*", step_metric="round")
        return run

    def _identity_file(self) -> Path:
        stem = re.sub(r"[^A-Za-z0-9._-]", "-", f"{self._job_type}-{self._name}")
        return self._run_dir / "wandb" / f"{stem}.id"

    def _identity(self) -> str:
        path = self._identity_file()
        known = path.read_bytes().strip() if path.is_file() else b""
        if not _IDENTITY.fullmatch(known):  # none yet, or a file that somebody else changed
            path.parent.mkdir(parents=True, exist_ok=True)
            known = secrets.token_hex(8).encode()
            path.write_bytes(known)
        return known.decode("ascii")

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._warn(what, error)

    def _warn(self, what: str, error: Exception) -> None:
        if what not in self._warned:
            self._warned.add(what)
            logger.warning(
                "tracking: %s could not be recorded (%s); the run goes on, %s has its full record",
                what,
                _first_line(error),
                self._run_dir,
            )


def resolve_mode(cfg: TrackingConfig) -> str:
    """Return `online`, `offline` or `disabled`: what `tracking.mode` means on this machine.

    `auto` follows the environment variable WANDB_MODE where it is set, is `online` where an API
    key is at hand, and `offline` elsewhere.

    Raises
    ------
    TrackingError
        If the mode is `online` and no API key is at hand.
    """
    if cfg.mode == "auto":
        asked = os.environ.get("WANDB_MODE", "")
        if asked in TRACKING_MODES and asked != "auto":
            return asked
        return "online" if has_key() else "offline"
    if cfg.mode == "online" and not has_key():
        raise TrackingError(
            "tracking.mode=online without an API key; expected WANDB_API_KEY in the environment or "
            "a login in ~/.netrc; set one (wandb login), or use tracking.mode=offline"
        )
    return cfg.mode


def has_key() -> bool:
    """Return whether an API key for the W&B server is set, without asking the server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@contextmanager
def _environment(run_dir: Path) -> Iterator[None]:
    """Keep all that W&B writes below the run folder, and W&B silent, while a run is open."""
    home = run_dir / "wandb"
    wanted = {
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_DATA_DIR": str(home / "data"),
        "WANDB_CONFIG_DIR": str(home / "config"),
        "WANDB_ARTIFACT_DIR": str(home / "artifacts"),
    }
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _mistakes(wandb: Any) -> tuple[type[Exception], ...]:
    return (wandb.errors.UsageError, wandb.errors.AuthenticationError)


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {k: v for k, v in values.items() if v is not None and math.isfinite(v)}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
