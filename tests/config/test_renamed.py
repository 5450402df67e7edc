"""Words of earlier versions: one sentence with the new one, wherever they stand."""

import pytest
import yaml

from primia_flwr.cli.main import run
from primia_flwr.config import renamed
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, load_experiment, parse
from primia_flwr.config.search.space import parse_space
from primia_flwr.config.stored import read_config
from primia_flwr.errors import ConfigError, PolicyRefusal
from primia_flwr.site.authorisation import judge
from primia_flwr.site.policy import parse_policy
from tests.site.test_authorisation import POLICY, config

KEYS = {key: new for key, new in renamed._KEYS.items() if key != "allowed_verbs"}
VALUES = [(key, old, new) for key, names in renamed._VALUES.items() for old, new in names.items()]


def content(key, value=True):
    """Return the configuration in which a dotted key stands."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def sentence(old, new):
    return f"{old} is of an earlier version; expected {new} in its place"


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Return a function that runs a command and returns its one sentence; nothing is left."""
    monkeypatch.chdir(tmp_path)

    def words(*arguments):
        assert run(list(arguments)) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert list(tmp_path.iterdir()) == []
        return line

    return words


@pytest.mark.parametrize("prefix", ["", "+", "++"])
@pytest.mark.parametrize(("key", "new"), KEYS.items())
def test_an_old_key_on_the_command_line(key, new, prefix, refused):
    assert sentence(key, new) in refused("train", "experiment=demo", f"{prefix}{key}=1")


@pytest.mark.parametrize(("key", "new"), KEYS.items())
def test_an_old_key_that_is_deleted_or_searched_over(key, new, refused):
    assert sentence(key, new) in refused("train", f"~{key}")
    assert sentence(key, new) in refused("train", "-m", f"{key}=0.1,0.2")
    with pytest.raises(ConfigError, match="earlier version"):
        parse_space({key: {"low": 0.1, "high": 0.9}})


@pytest.mark.parametrize(("old", "new"), renamed.CHOICES.items())
def test_an_old_choice_on_the_command_line(old, new, refused):
    assert sentence(old, new) in refused("train", "experiment=demo", old)
    assert sentence(old, new) in refused("train", old, "dry_run=true")
    assert sentence(old, new) in refused("train", "-m", f"{old},fedavg", "seed=1,2")


@pytest.mark.parametrize(("key", "old", "new"), VALUES)
def test_an_old_value(key, old, new, refused, tmp_path):
    said = sentence(f"{key}=[{old}]", new)
    assert said in refused("train", "experiment=demo", f"{key}=[{old}]")
    assert said in refused("compare", "runs=[a]", f"{key}=[{old}]")
    with pytest.raises(ConfigError) as caught:
        load_experiment(yaml.safe_dump({key: [old]}))
    assert said in str(caught.value)


@pytest.mark.parametrize(("key", "new"), KEYS.items())
def test_an_old_key_in_an_experiment_that_arrives_or_was_stored(key, new, tmp_path):
    text = yaml.safe_dump({"name": "demo", **content(key)})
    with pytest.raises(ConfigError) as caught:
        load_experiment(text)
    assert str(caught.value) == sentence(key, new)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "config.yaml")
    assert sentence(key, new) in str(caught.value)


@pytest.mark.parametrize(("key", "new"), KEYS.items())
def test_an_old_key_in_an_experiment_of_ones_own(key, new, tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "own.yaml").write_text("# @package _global_\n" + yaml.safe_dump(content(key)))
    with pytest.raises(ConfigError) as caught:
        parse(Experiment, compose("config", [f"experiment={folder / 'own.yaml'}"]))
    assert str(caught.value) == sentence(key, new)


@pytest.mark.parametrize(("old", "new"), renamed.CHOICES.items())
def test_an_old_choice_in_an_experiment_of_ones_own(old, new, tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    group, _, choice = old.partition("=")
    text = f"# @package _global_\ndefaults:\n  - override /{group}: {choice}\n"
    (folder / "own.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose("config", [f"experiment={folder / 'own.yaml'}"])
    assert str(caught.value) == sentence(old, new)


@pytest.mark.parametrize(("key", "new"), KEYS.items())
def test_a_sites_gate_names_the_new_key_before_any_code_runs(key, new):
    wanted = {"name": "pneumonia", "federation": {"min_sites": 3}, **content(key)}
    with pytest.raises(PolicyRefusal) as caught:
        judge(config(yaml.safe_dump(wanted)), POLICY)
    assert str(caught.value) == f"site munich refuses: {sentence(key, new)}"


def test_a_policy_with_an_old_key_allows_nothing(tmp_path):
    text = "site: munich\nsuperlink: fl.example.org:9391\nallowed_verbs: [train]\n"
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, folder=tmp_path)
    assert str(caught.value) == sentence("allowed_verbs", "allowed_messages")


def test_a_whole_configuration_of_before_is_refused_at_its_first_old_key():
    before = {
        "strategy": {
            "name": "fedavg",
            "secure": {"enabled": True, "audit": False, "clip": 32.0},
            "float_mean": False,
        },
        "baselines": ["alone", "pooled"],
    }
    with pytest.raises(ConfigError) as caught:
        load_experiment(yaml.safe_dump(before))
    assert str(caught.value) == sentence("baselines=[alone]", "local")
    del before["baselines"]
    with pytest.raises(ConfigError, match=r"strategy\.float_mean is of an earlier version"):
        load_experiment(yaml.safe_dump(before))


def test_no_new_word_is_an_old_one_and_each_is_there():
    experiment = Experiment()
    for new in KEYS.values():
        section, *rest = new.split(" ")[0].split(".")
        found = getattr(experiment, section)
        if rest and rest[0] != "options":
            assert hasattr(found, rest[0]), new
        assert new not in renamed._KEYS
    for words in renamed.CHOICES.values():
        parse(Experiment, compose("config", [words.split(",")[0].split(" ")[0]]))
