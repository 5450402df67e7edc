from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError
from primia_flwr.site.policy import SitePolicy, load_policy, load_yaml_mapping, parse_policy

HEAD = "site: munich\nsuperlink: fl.example.org:9391\n"
HASH = "ab" * 32


def test_defaults_allow_no_code_and_no_experiment(tmp_path: Path) -> None:
    policy = parse_policy(HEAD, folder=tmp_path)
    assert policy.approved_bundles == []
    assert policy.allowed_experiments == []
    assert policy.log_file == tmp_path / "state" / "site-log.jsonl"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    policy = parse_policy(HEAD + "state: ../elsewhere\n", folder=tmp_path / "kit")
    assert policy.state_folder == tmp_path / "elsewhere"
    assert policy.path("/etc/ca.crt") == Path("/etc/ca.crt")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("aproved_bundles: []", ["key=aproved_bundles", "approved_bundles"]),
        ("min_sites: two", ["min_sites='two'", "a whole number"]),
        ("min_sites: true", ["min_sites=True", "a whole number"]),
        ("accept_two: 1", ["accept_two=1", "true or false"]),
        ("min_sites: 0", ["min_sites=0", "at least 1"]),
        ("approved_bundles: 3fa9", ["approved_bundles='3fa9'", "a list of str"]),
        ("approved_bundles: [3fa9]", ["approved_bundles='3fa9'", "64 hex digits"]),
        ("approved_bundles: [17]", ["approved_bundles=[17]", "a list of str"]),
        ("allowed_verbs: [trian]", ["allowed_verbs='trian'", "train, evaluate"]),
        ("allowed_experiments: ['a b']", ["allowed_experiments='a b'"]),
        ("data_layout: zip", ["data_layout=zip", "folder"]),
        ("device: gpu", ["device='gpu'", "cuda:0"]),
        ("folder: /tmp", ["key=folder"]),
        ("site: munich", ["stands twice"]),
    ],
)
def test_each_mistake_names_the_key(tmp_path: Path, line: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(f"{HEAD}{line}\n", folder=tmp_path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("superlink", ["fl.example.org", "fl.example.org:0", "fl:70000", ":9391"])
def test_address_needs_host_and_port(superlink: str) -> None:
    with pytest.raises(ConfigError, match=r"superlink=.*expected host:port"):
        SitePolicy(site="munich", superlink=superlink)


def test_missing_key_and_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"superlink is missing; .*fl\.example\.org:9391"):
        parse_policy("site: munich\n", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"site\.yaml cannot be read"):
        load_policy(tmp_path / "site.yaml")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_mapping_or_one_clear_error(text: str) -> None:
    try:
        content = load_yaml_mapping(text, what="it")
    except ConfigError:
        return
    assert isinstance(content, dict)
