"""Pure functions that the product calls once a process and the tests thousands of times.

Each is computed once a session for the same arguments; a copy is returned from then on, until
`forget` is called.
"""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dp_accounting.pld import privacy_loss_distribution
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from omegaconf import OmegaConf

from primia_flwr.config import load, plain_yaml
from primia_flwr.config.rows import plugin_folders
from primia_flwr.data.layouts import synthetic
from primia_flwr.plotting import Plot
from primia_flwr.privacy.accounting import accountant
from primia_flwr.reporting.plots import evidence, run
from primia_flwr.tasks.classes import plots

DRAW_ALL = synthetic._write_all
_PLOTS = dict[Any, Plot]()


def _compose() -> Callable[..., Any]:
    real, root, known = load.compose, load.app_root(), dict[Any, bytes]()

    def compose(name: str = "config", overrides: Sequence[str] = (), **how: bool) -> Any:
        words = tuple(overrides)
        beside = any(word.endswith(".yaml") for word in words) or Path("federations/conf").exists()
        if beside or plugin_folders() or load.app_root() != root:
            return real(name, words, **how)
        asked = (name, words, *how.items())
        if asked not in known:
            known[asked] = pickle.dumps(real(name, words, **how))
        return pickle.loads(known[asked])

    return compose


def _load_experiment() -> Callable[[str], Any]:
    real, known = load.load_experiment, dict[str, Any]()

    def load_experiment(text: str) -> Any:
        if not text or plugin_folders():
            return real(text)
        if text not in known:
            known[text] = real(text)
        return copy.deepcopy(known[text])

    return load_experiment


def _load_mapping() -> Callable[..., Any]:
    real, known = plain_yaml.load_mapping, dict[Any, Any]()

    def load_mapping(text: str, *, what: str, **limits: int) -> Any:
        asked = (text, *limits.items())
        if asked not in known:
            known[asked] = real(text, what=what, **limits)
        return copy.deepcopy(known[asked])

    return load_mapping


def _structured() -> Callable[..., Any]:
    real, known = OmegaConf.structured, dict[type, bytes]()

    def structured(obj: Any, parent: Any = None, flags: Any = None) -> Any:
        ours = isinstance(obj, type) and obj.__module__.startswith("primia_flwr.")
        if not ours or parent is not None or flags is not None:
            return real(obj, parent, flags)
        if obj not in known:
            known[obj] = pickle.dumps(real(obj))
        return pickle.loads(known[obj])

    return structured


def _pld_epsilon() -> Callable[..., float]:
    real, known = accountant._pld_epsilon, dict[Any, float]()

    def pld_epsilon(counts: Any, delta: float, interval: float) -> float:
        asked = (frozenset(counts.items()), delta, interval)
        if asked not in known:
            known[asked] = real(counts, delta, interval)
        return known[asked]

    return pld_epsilon


def _load_config() -> Callable[..., Any]:
    real, known = FileConfigSource.load_config, dict[Any, bytes]()
    conf = str(load.app_root() / "conf")

    def load_config(self: FileConfigSource, config_path: str) -> Any:
        if not self.path.startswith(conf):
            return real(self, config_path)
        asked = (self.path, self.provider, config_path)
        if asked not in known:
            known[asked] = pickle.dumps(real(self, config_path))
        return pickle.loads(known[asked])

    return load_config


def _draw_all() -> Callable[..., None]:
    known = dict[Any, dict[Path, bytes]]()

    def draw_all(cfg: Any, folder: Path, *, masked: bool) -> None:
        asked = (repr(cfg), masked)
        files = known.get(asked)
        if files is None:
            DRAW_ALL(cfg, folder, masked=masked)
            files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
            known[asked] = files
            return
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)

    return draw_all


def _plot(real: Callable[..., Plot]) -> Callable[..., Plot]:
    @functools.wraps(real)
    def plot(*args: Any) -> Plot:
        asked = (real, pickle.dumps(args))
        if asked not in _PLOTS:
            _PLOTS[asked] = real(*args)
        return _PLOTS[asked]

    return plot


def forget_plots() -> None:
    """Have every plot drawn anew from here on."""
    _PLOTS.clear()


def remember() -> None:
    """Put the remembering functions in place; call it before the product binds their names."""
    plain_yaml.load_mapping = load.load_mapping = _load_mapping()
    load.compose = _compose()  # type: ignore[assignment]
    load.load_experiment = _load_experiment()
    OmegaConf.structured = staticmethod(_structured())  # type: ignore[method-assign]
    FileConfigSource.load_config = _load_config()  # type: ignore[method-assign]
    accountant._pld_epsilon = _pld_epsilon()
    synthetic._write_all = _draw_all()
    of_mechanism = privacy_loss_distribution.from_gaussian_mechanism
    privacy_loss_distribution.from_gaussian_mechanism = functools.lru_cache(256)(of_mechanism)
    for module in (run, evidence, plots):
        for name, real in list(vars(module).items()):
            if getattr(real, "__annotations__", {}).get("return") is Plot:
                setattr(module, name, _plot(real))
