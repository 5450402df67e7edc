import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.config.plain_yaml import load_mapping
from primia_flwr.errors import ConfigError
from primia_flwr.site.policy import SitePolicy, load_policy, parse_policy

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
        ("min_fingerprint_volumes: 0", ["min_fingerprint_volumes=0", "at least 1"]),
        ("min_sites: 0", ["min_sites=0", "at least 1"]),
        ("approved_bundles: 3fa9", ["approved_bundles='3fa9'", "a list of str"]),
        ("approved_bundles: [3fa9]", ["approved_bundles='3fa9'", "64 hex digits"]),
        ("approved_bundles: [17]", ["approved_bundles=[17]", "a list of str"]),
        ("allowed_messages: [trian]", ["allowed_messages='trian'", "train, evaluate"]),
        ("allowed_verbs: [train]", ["allowed_verbs is of an earlier", "expected allowed_messages"]),
        ("allowed_experiments: ['a b']", ["allowed_experiments='a b'"]),
        ("data_layout: zip", ["data_layout=zip", "folder"]),
        ("data_task: masks", ["data_task=masks", "segmentation", "plugin:<name>"]),
        ("data_task: 'plugin:'", ["data_task=plugin:", "segmentation"]),
        ("data_classes: [ill]", ["data_classes=['ill']", "two different"]),
        ("data_classes: [ill, ill]", ["data_classes=['ill', 'ill']", "two different"]),
        ("data_mask_values: [0, 255]", ["data_mask_values=[0, 255] with data_classes=[]"]),
        ("data_mask_values: [lung]", ["data_mask_values=['lung']", "int"]),
        ("device: gpu", ["device='gpu'", "cuda:0"]),
        ("folder: /tmp", ["key=folder"]),
        ("site: munich", ["stands twice"]),
        ("'site': munich", ["stands twice"]),
        ("1: x\n0x1: y", ["a key that is not text"]),
        ("true: x\nTrue: y", ["a key that is not text"]),
        ("!!str state: x", ["line 3 has a tag"]),
        ("state: !!str x", ["line 3 has a tag"]),
        ("state: &a x", ["line 3 has an anchor or alias"]),
        ("<<: {state: x}", ["a merge key"]),
        ("state: ${oc.env:HOME}", ["an interpolation"]),
        ("state: [", ["not valid YAML (near line"]),
        ("min_sites: 0x" + "f" * 5000, ["more than 64 bits"]),
        ("min_sites: [" + "1, " * 500 + "1]", ["min_sites=[1, 1", "a whole number"]),
        ("x\x07" * 50 + ": 1", ["not valid YAML"]),
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
        content = load_mapping(text, what="it")
    except ConfigError:
        return
    assert isinstance(content, dict)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"site: \xff\xfe", "no text in UTF-8"),
        (b"\x00\x00\x00???\x01\x00\x00\xcd\xe5 unich", "no text in UTF-8"),
        (b"site: mu\x00nich", "not valid YAML"),
        (b"# " + b"x" * (1 << 20), "more than 1048576 bytes"),
        (b"a: " + b"[" * 40, "more than 32 levels"),
        (b'site: munich\nsuperlink: a:1\nsite: "', "not valid YAML"),
        (b"site: munich\nsuperlink: a:1\nmax_epsilon: .nan", "the number nan"),
        (b"site: munich\nsuperlink: a:1\nmin_sites: " + b"9" * 5000, "not valid YAML"),
        (b"", "expected YAML"),
    ],
    ids=range(9),
)
def test_a_file_of_any_bytes_is_one_clear_error(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_a_folder_or_a_pipe_is_no_policy(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match=r"no regular file|Is a directory"):
            load_policy(file)


@pytest.mark.parametrize(
    "value", ["a\0b", "~no-such-user-here/data", "loop/x"], ids=["nul", "user", "loop"]
)
def test_what_cannot_be_a_path_is_one_clear_error(tmp_path: Path, value: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    policy = parse_policy(HEAD, folder=tmp_path)
    with pytest.raises(ConfigError, match="cannot be a path here"):
        policy.path(value)


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o777])
def test_a_policy_that_everybody_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(HEAD)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"run chmod o-w {file}"):
        load_policy(file)
    file.chmod(mode & ~0o002)
    assert load_policy(file).site == "munich"


@given(st.binary(max_size=100))
def test_any_bytes_are_a_policy_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    file = tmp_path_factory.mktemp("policy") / "site.yaml"
    for content in (noise, HEAD.encode() + noise):
        file.write_bytes(content)
        try:
            policy = load_policy(file)
            policy.path(policy.data_root)
        except ConfigError:
            continue
        assert policy.site == "munich"
