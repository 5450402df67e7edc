"""Load a configuration: compose the YAML of `conf/`, check it, turn it into dataclasses.

`conf/` is the one source of truth. A composed experiment crosses the network as one YAML
string; both ends read it with `load_experiment`, so an unknown key or a wrong type is the
same error everywhere. Nothing here instantiates a class that a configuration names.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from primia_flwr.config import parsing, renamed
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.parsing import explain
from primia_flwr.config.plain_yaml import load_mapping
from primia_flwr.config.root import app_root
from primia_flwr.config.rows import plugin_folders
from primia_flwr.config.search.searched import check_search
from primia_flwr.config.typed import quoted, typed
from primia_flwr.errors import ConfigError
from primia_flwr.storage.reading import reading

_T = TypeVar("_T")

# Where a run happens does not change its result: two runs that differ only here are the same
# experiment, and one may resume the other.
_NOT_PART_OF_THE_RESULT = (
    *(
        "output_dir",
        "resume",
        "resume_rounds",
        "dry_run",
        "quiet",
        "tracking",
        "deployment",
        "report",
        "debug",
    ),
)
_OF_ASYNCHRONOUS_RUNS = (
    "buffer", "mixing", "staleness_power", "max_staleness", "validate_every", "mixed_rounds",
)  # fmt: skip
_NOT_PART_OF_THE_DATA = ("root", "manifest", "cache_dir", "workers")


def with_search_path(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with the folders beside `conf/` that hold choices.

    These are `federations/conf`, the plugins' own, and the folder of an experiment given as a
    file, `experiment=<folder>/experiment/<name>.yaml`.

    Raises
    ------
    ConfigError
        If an experiment's file does not exist, or lies in a folder of another name.
    """
    folders, words = list[Path](), list[str]()
    for word in overrides:
        key, _, value = word.partition("=")
        if key == "experiment" and value.endswith(".yaml"):
            path = _experiment_file(value)
            folders.append(path.parent.parent)
            word = f"experiment={path.stem}"
        words.append(word)
    provisioned = Path.cwd() / "federations" / "conf"
    folders += [provisioned] if provisioned.is_dir() else []
    folders += [root / "conf" for root in plugin_folders() if (root / "conf").is_dir()]
    path_override = ",".join(quoted(f"file://{folder}") for folder in folders)
    return [*words, f"hydra.searchpath=[{path_override}]"] if folders else words


def _experiment_file(value: str) -> Path:
    path = Path(value).expanduser().resolve()
    if not path.is_file() or path.parent.name != "experiment":
        raise ConfigError(
            f"experiment={value}; expected the name of an experiment in conf/, or an existing "
            "file <folder>/experiment/<name>.yaml"
        )
    if (app_root() / "conf" / "experiment" / path.name).is_file():
        raise ConfigError(
            f"experiment={value} has the name of an experiment in conf/, which would be taken "
            f"instead; expected another name; rename the file"
        )
    return path


def compose(
    config_name: str = "config",
    overrides: Sequence[str] = (),
    *,
    groups: bool = False,
    return_hydra_config: bool = False,
) -> DictConfig:
    """Compose one entry of `conf/` with command-line overrides.

    `config_name` may lie in a folder (`commands/inference/infer`): its keys then mean the groups
    of `conf/` only with `groups`, so `model=outputs/a` is a value there. With
    `return_hydra_config` Hydra's own section `hydra` comes along.

    Raises
    ------
    ConfigError
        If a key or a choice does not exist, or an override cannot be parsed.
    """
    import hydra  # here: what arrives at a site is composed already
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    renamed.check_overrides(overrides)
    folder, _, name = ("", "", config_name) if groups else config_name.rpartition("/")
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(app_root() / "conf" / folder), version_base="1.3"):
            return hydra.compose(
                name,
                overrides=list(overrides) if folder else with_search_path(overrides),
                return_hydra_config=return_hydra_config,
            )
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(explain(error)) from None


def parse(schema: type[_T], cfg: DictConfig) -> _T:
    """Turn a composed configuration into its checked dataclass; of a search, its space too.

    Raises
    ------
    ConfigError
        If a key is unknown, has the wrong type, is missing or is out of range.
    """
    renamed.check_keys(cast(dict[str, Any], OmegaConf.to_container(cfg)))
    parsed = parsing.parse(schema, cfg)
    if isinstance(parsed, Experiment):
        check_search(parsed)
    return parsed


def compose_experiment(overrides: Sequence[str] = ()) -> Experiment:
    """Return the experiment of `conf/`, changed by overrides, e.g. `["model=vgg16", "seed=2"]`.

    Raises
    ------
    ConfigError
        If a key or a choice does not exist, or a value is not as expected.
    """
    return parse(Experiment, compose("config", typed(overrides, Experiment)))


def without_sweep(cfg: DictConfig) -> DictConfig:
    """Return the composed configuration without what is of the search or of Hydra."""
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("sweep", "hydra")])
    assert isinstance(plain, DictConfig)
    return plain


def load_experiment(text: str) -> Experiment:
    """Read the experiment that the coordinator sent; empty text means the defaults of `conf/`.

    Raises
    ------
    ConfigError
        If the text is not a valid experiment.
    """
    if not text.strip():
        return compose_experiment()
    content = load_mapping(text, what="the experiment")
    renamed.check_keys(content)
    expected = "the YAML of one experiment, as `primia train` writes it"
    with reading("the experiment", error=ConfigError, expected=expected):
        return parse(Experiment, OmegaConf.create(content))


def to_yaml(config: object) -> str:
    """Write a configuration dataclass as YAML that `load_experiment` reads back unchanged.

    By OmegaConf, which writes a number as its field has it: 2 for a `float` is 2.0 here and, read
    back, at the sites. Both ends of secure aggregation must write the same.
    """
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def deciding_settings(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment as plain values without what does not decide its result."""
    settings = asdict(experiment)
    for key in _NOT_PART_OF_THE_RESULT:
        del settings[key]
    for key in _NOT_PART_OF_THE_DATA:
        del settings["data"][key]
    del settings["aggregation"]["run"]
    if not experiment.aggregation.shares_a_part:
        del settings["aggregation"]["share"], settings["aggregation"]["share_by"]
    del settings["aggregation"]["receive"]
    if not experiment.aggregation.asynchronous:
        for key in _OF_ASYNCHRONOUS_RUNS:
            del settings["aggregation"][key]
    if not experiment.model.adapted:
        del settings["model"]["lora_rank"], settings["model"]["lora_alpha"]
    if not experiment.model.keeps_layers:
        del settings["model"]["shared"]
    if experiment.data.frames == 1:
        del settings["data"]["frames"], settings["model"]["temporal"]
    if not experiment.data.volumes.fingerprint:
        del settings["data"]["volumes"]["fingerprint"], settings["data"]["volumes"]["levels"]
    if not experiment.search.enabled:
        del settings["search"]
    if experiment.deployment.kind == "deployment" and not experiment.deployment.trial:
        del settings["federation"]["sites"]  # sites join and leave: the run stays the same
    return settings


def config_hash(experiment: Experiment) -> str:
    """Return 16 hexadecimal digits that change when anything changes that decides the result."""
    return _hash_of(deciding_settings(experiment))


def kept_hash(experiment: Experiment) -> str:
    """Return a hash as `config_hash`, but for the number of rounds, which a resumed run may raise.

    Under it lies what sites and coordinator keep of a run besides checkpoints.
    """
    settings = deciding_settings(experiment)
    del settings["federation"]["rounds"]
    return _hash_of(settings)


def _hash_of(settings: dict[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
