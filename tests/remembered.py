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
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

from primia_flwr.config import load, plain_yaml
from primia_flwr.config.rows import plugin_folders
from primia_flwr.config.search import searched
from primia_flwr.data.layouts import synthetic
from primia_flwr.flower import imported
from primia_flwr.plotting import Plot
from primia_flwr.privacy.accounting import accountant
from primia_flwr.reporting.plots import evidence, run
from primia_flwr.tasks.classes import plots

DRAW_ALL = synthetic._write_all
_PLOTS = dict[Any, Plot]()


class _Choices:
    """What Hydra makes of the same choices of files in `conf/`, before it sets single values."""

    def __init__(self) -> None:
        self.asked = False  # whether it is `conf/` alone that is composed
        self._lists, self._merged = dict[Any, bytes](), dict[Any, bytes]()
        self._choose = defaults_list._create_defaults_list
        self._merge = ConfigLoaderImpl._compose_config_from_defaults_list
        defaults_list._create_defaults_list = self.chosen

        def merged(loader: ConfigLoaderImpl, defaults: Any, repo: Any) -> Any:
            return self.merged(loader, defaults, repo)

        ConfigLoaderImpl._compose_config_from_defaults_list = merged  # type: ignore[method-assign]

    def chosen(
        self, repo: Any, config_name: str, overrides: Any, prepend_hydra: bool, skip_missing: bool
    ) -> Any:
        how = (config_name, overrides, prepend_hydra, skip_missing)
        if not self.asked:
            return self._choose(repo, *how)
        state = {key: value for key, value in vars(overrides).items() if key != "config_overrides"}
        asked = (_folders(repo), config_name, prepend_hydra, skip_missing, repr(state))
        if asked not in self._lists:
            found = self._choose(repo, *how)
            self._lists[asked] = pickle.dumps((found, state))
        found, known = pickle.loads(self._lists[asked])
        vars(overrides).update(known)
        return found

    def merged(self, loader: ConfigLoaderImpl, defaults: Any, repo: Any) -> Any:
        if not self.asked:
            return self._merge(loader, defaults, repo)
        asked = (_folders(repo), repr(defaults))
        if asked not in self._merged:
            self._merged[asked] = pickle.dumps(self._merge(loader, defaults, repo))
        return pickle.loads(self._merged[asked])


def _folders(repo: Any) -> tuple[str, ...]:
    return tuple(source.path for source in repo.get_sources())


def _compose() -> Callable[..., Any]:
    real, root, known, choices = load.compose, load.app_root(), dict[Any, bytes](), _Choices()

    def compose(name: str = "config", overrides: Sequence[str] = (), **how: bool) -> Any:
        words = tuple(overrides)
        beside = any(word.endswith(".yaml") or "hydra." in word for word in words)
        if beside or Path("federations/conf").exists() or plugin_folders():
            return real(name, words, **how)
        if load.app_root() != root:
            return real(name, words, **how)
        asked = (name, words, *how.items())
        if asked not in known:
            choices.asked = True
            try:
                known[asked] = pickle.dumps(real(name, words, **how))
            finally:
                choices.asked = False
        return pickle.loads(known[asked])

    return compose


def _load_experiment() -> Callable[[str], Any]:
    real, known = load.load_experiment, dict[str, bytes]()

    def load_experiment(text: str) -> Any:
        if not text or plugin_folders():
            return real(text)
        if text not in known:
            known[text] = pickle.dumps(real(text))
        return pickle.loads(known[text])

    return load_experiment


def _to_yaml() -> Callable[[object], str]:
    real, known = load.to_yaml, dict[bytes, str]()

    def to_yaml(config: object) -> str:
        if plugin_folders():
            return real(config)
        asked = pickle.dumps(config)
        if asked not in known:
            known[asked] = real(config)
        return known[asked]

    return to_yaml


def _load_mapping() -> Callable[..., Any]:
    real, known = plain_yaml.load_mapping, dict[Any, Any]()

    def load_mapping(text: str, *, what: str, **limits: int) -> Any:
        asked = (text, *limits.items())
        if asked not in known:
            known[asked] = real(text, what=what, **limits)
        return copy.deepcopy(known[asked])

    return load_mapping


def _with_values() -> Callable[..., Any]:
    real, known = searched.with_values, dict[bytes, bytes]()

    def with_values(experiment: Any, values: Any) -> Any:
        if plugin_folders():
            return real(experiment, values)
        asked = pickle.dumps((experiment, dict(values)))
        if asked not in known:
            known[asked] = pickle.dumps(real(experiment, values))
        return pickle.loads(known[asked])

    return with_values


def _load_file() -> Callable[[Any], Any]:
    real, known = OmegaConf.load, dict[Any, bytes]()

    def load_file(file: Any) -> Any:
        name = file if isinstance(file, str | Path) else getattr(file, "name", None)
        if name is None:
            return real(file)
        found = Path(name).stat()
        asked = (str(name), found.st_ino, found.st_mtime_ns, found.st_size)
        if asked not in known:
            known[asked] = pickle.dumps(real(file))
        return pickle.loads(known[asked])

    return load_file


def _names_in() -> Callable[[Path], tuple[str, ...]]:
    real, known = imported._names, dict[str, tuple[str, ...]]()

    def names(path: Path) -> tuple[str, ...]:
        text = path.read_text(encoding="utf-8")
        if text not in known:
            known[text] = tuple(real(path))
        return known[text]

    return names


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
        if plugin_folders():  # a plugin's task has no importable name
            return real(*args)
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
    load.load_experiment, load.to_yaml = _load_experiment(), _to_yaml()
    searched.with_values = _with_values()
    OmegaConf.load = staticmethod(_load_file())  # type: ignore[method-assign]
    imported._names = _names_in()  # type: ignore[assignment]
    OmegaConf.structured = staticmethod(_structured())  # type: ignore[method-assign]
    accountant._pld_epsilon = _pld_epsilon()
    synthetic._write_all = _draw_all()
    of_mechanism = privacy_loss_distribution.from_gaussian_mechanism
    privacy_loss_distribution.from_gaussian_mechanism = functools.lru_cache(256)(of_mechanism)
    for module in (run, evidence, plots):
        for name, real in list(vars(module).items()):
            if getattr(real, "__annotations__", {}).get("return") is Plot:
                setattr(module, name, _plot(real))
