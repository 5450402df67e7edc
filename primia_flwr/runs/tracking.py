"""Weights & Biases behind one door: the only module that imports wandb, and only on `start`.

Tracking copies what the run's folder already holds, so whatever goes wrong here is a warning and
ends no run; only a wrong configuration (online without a key, a key that is none) is an error.
What W&B gathers on its own (host name, user, command line, source code, hardware readings, crash
reports) is switched off.
"""

import logging
import math
import netrc
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlparse

from primia_flwr.config.experiment.tracking import TRACKING_MODES, TrackingConfig
from primia_flwr.errors import TrackingError
from primia_flwr.extras import installed, need

logger = logging.getLogger(__name__)

Values = Mapping[str, float | None]
_SETTINGS: dict[str, Any] = dict.fromkeys(
    ("silent quiet disable_code disable_git disable_job_creation x_disable_meta x_disable_stats "
     "x_disable_machine_info x_disable_viewer").split(), True,
) | {"console": "off", "save_code": False, "init_timeout": 30, "finish_timeout": 60}  # fmt: skip


class Tracker:
    """One W&B run: `start`, then log, then `finish` (or use it as a context manager).

    All of W&B's files go below `<run_dir>/wandb`. `name`: of this W&B run, by default that of the
    folder; `job_type`: `coordinator`, or `site` for one site's own curves.
    """

    def __init__(
        self, cfg: TrackingConfig, run_dir: Path, *, name: str = "", job_type: str = "coordinator"
    ) -> None:
        self._cfg, self._run_dir, self._job_type = cfg, run_dir.resolve(), job_type
        self._name = name or self._run_dir.name
        self._run: Any = None
        self._stack = ExitStack()
        self._sites: dict[str, Tracker] = {}
        self._warned: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether W&B takes what is logged."""
        return self._run is not None

    def start(self, config: Mapping[str, Any] | None = None) -> Self:
        """Begin the W&B run, or go on with the one that was begun in this folder before.

        Raises
        ------
        TrackingError
            If online tracking is asked for and there is no usable key.
        """
        mode = resolve_mode(self._cfg)
        if mode == "disabled" or self.active:
            return self
        self._stack.enter_context(_environment(self._run_dir / "wandb"))
        try:
            with self._guard("the start"):
                self._run = self._open(mode, dict(config or {}))
            if mode == "online" and not self.active:
                logger.warning("tracking goes on offline; upload later with wandb sync")
                with self._guard("the offline start"):
                    self._identity_file().unlink(missing_ok=True)  # taken till the process ends
                    self._run = self._open("offline", dict(config or {}))
        finally:
            if not self.active:
                self._stack.close()
        return self

    def log_round(self, round_: int, values: Values) -> None:
        """Add one point to every curve named in `values`; entries of None or NaN are left out."""
        known = {k: v for k, v in values.items() if v is not None and math.isfinite(v)}
        with self._guard("a round"):
            if self.active:
                self._run.log({"round": round_, **known})

    def log_site(self, site: str, round_: int, values: Values) -> None:
        """Add one point to the curves of a site's own W&B run, if `tracking.sites` asks for it."""
        if self.active and self._cfg.sites:
            if site not in self._sites:
                tracker = Tracker(self._cfg, self._run_dir, name=site, job_type="site")
                self._sites[site] = tracker.start({"site": site})
            self._sites[site].log_round(round_, values)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table: `rows` with one value a column."""
        with self._guard(f"table {name}"):
            if self.active:
                from wandb import Table

                data = [list(row) for row in rows]
                self._run.log({name: Table(list(columns), data, allow_mixed_types=True)})

    def log_summary(self, values: Values) -> None:
        """Set the run's final figures."""
        with self._guard("the summary"):
            if self.active:
                self._run.summary.update({k: v for k, v in values.items() if v is not None})

    def log_model(self, paths: Sequence[Path]) -> None:
        """Keep the files of the trained model as one artifact, if `tracking.model` says so."""
        with self._guard("the model"):
            if self.active and self._cfg.model:
                from wandb import Artifact

                artifact = Artifact(_file_name(f"model-{self._name}")[:128], type="model")
                for path in paths:
                    artifact.add_file(str(path))
                self._run.log_artifact(artifact)

    def finish(self, *, ok: bool = True) -> None:
        """End the run (`ok=False`: as failed); a second call does nothing."""
        while self._sites:
            self._sites.popitem()[1].finish(ok=ok)
        run, self._run = self._run, None
        with self._guard("the end of the run"):
            if run is not None:
                run.finish(exit_code=0 if ok else 1)
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(ok=kind is None)

    def _open(self, mode: str, config: dict[str, Any]) -> Any:
        import wandb

        known = wandb.Settings.model_fields
        try:
            run = wandb.init(
                project=self._cfg.project,
                entity=self._cfg.entity or None,
                group=self._cfg.group or self._run_dir.name,
                job_type=self._job_type,
                name=self._name,
                tags=list(self._cfg.tags),
                config=config,
                dir=str(self._run_dir),
                id=_identity(self._identity_file()),
                mode=mode,
                resume="allow" if mode == "online" else None,
                reinit="create_new",
                settings=wandb.Settings(**{k: v for k, v in _SETTINGS.items() if k in known}),
            )
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise TrackingError(
                f"tracking.mode={self._cfg.mode}: W&B refuses the key or the settings "
                f"({_first_line(error)}); expected a valid WANDB_API_KEY; correct it, or set "
                "tracking.mode=offline"
            ) from None
        run.define_metric("round")
        run.define_metric("*", step_metric="round")
        return run

    def _identity_file(self) -> Path:
        return self._run_dir / "wandb" / f"{_file_name(f'{self._job_type}-{self._name}')}.id"

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            if what not in self._warned:
                logger.warning(
                    "tracking: %s could not be recorded (%s); the run goes on, %s has its full "
                    "record", what, _first_line(error), self._run_dir,
                )  # fmt: skip
            self._warned.add(what)


def resolve_mode(cfg: TrackingConfig) -> str:
    """Return `online`, `offline` or `disabled`: what `tracking.mode` means on this machine.

    `auto` follows the environment variable WANDB_MODE where it is set, is `online` where an API
    key is at hand, and `offline` elsewhere; without wandb it is `disabled`.

    Raises
    ------
    MissingExtraError
        If the mode is `online` or `offline` and wandb is not installed.
    TrackingError
        If the mode is `online` and no API key is at hand.
    """
    if cfg.mode in ("online", "offline"):
        need("wandb", f"tracking.mode={cfg.mode}", instead="tracking=disabled")
    if cfg.mode == "auto":
        if not installed("wandb"):
            return "disabled"
        asked = os.environ.get("WANDB_MODE", "auto")
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
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        known = netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        known = False
    return known or bool(os.environ.get("WANDB_API_KEY"))


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """Keep all that W&B writes below a folder, and W&B silent, while a run is open."""
    folders = {f"WANDB_{kind.upper()}_DIR": str(home / kind) for kind in ("cache", "data", "config")}
    wanted = {
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_ARTIFACT_DIR": str(home / "artifacts"),
        **folders,
    }
    before = {key: os.environ[key] for key in wanted if key in os.environ}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key in wanted:
            os.environ.pop(key, None)
        os.environ.update(before)


def _identity(path: Path) -> str:
    """Return the id kept in a file; a new one where there is none or it is no id."""
    known = path.read_bytes().strip() if path.is_file() else b""
    if not re.fullmatch(rb"[0-9a-f]{16}", known):
        path.parent.mkdir(parents=True, exist_ok=True)
        known = secrets.token_hex(8).encode()
        path.write_bytes(known)
    return known.decode("ascii")


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
