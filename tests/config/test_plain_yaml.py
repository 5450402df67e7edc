import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.tracking import TrackingConfig
from primia_flwr.config.load import compose, load_experiment, parse, to_yaml
from primia_flwr.config.plain_yaml import load_mapping
from primia_flwr.errors import ConfigError


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"name: *a{levels - 1}"])


def merges(levels: int) -> str:
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, levels)]
    return "\n".join([*lines, "name: x"])


REFUSED = [
    (laughs(7), "line 1 has an anchor or alias"),
    (laughs(40), "line 1 has an anchor or alias"),
    (merges(30), "line 1 has an anchor or alias"),
    ("name: &a x", "has an anchor or alias"),
    ("name: *a", "has an anchor or alias"),
    ("<<: {a: 1}\na: 2", "a merge key"),
    ("a:\n  <<: {b: 1}", "a merge key"),
    ("x: &x {a: 1}\ny: {<<: *x, a: 2}", "has an anchor or alias"),
    ("!!str a: 1\na: 2", "has a tag"),
    ("a: !!int 1", "has a tag"),
    ("a: ! 1", "has a tag"),
    ("a: !x y", "has a tag"),
    ("!!map {a: 1}", "has a tag"),
    ("a: !!binary YQ==", "has a tag"),
    ("a: !!python/object/apply:os.getcwd []", "has a tag"),
    ("a: !<tag:yaml.org,2002:bool> x", "has a tag"),
    ("a: 1\na: 2", "a key stands twice"),
    ("a: 1\n'a': 2", "a key stands twice"),
    ("? a\n: 1\na: 2", "a key stands twice"),
    ('a: 1\n"\\x61": 2', "a key stands twice"),
    ("x: {b: {a: 1, a: 2}}", "a key stands twice"),
    ("1: x\n0x1: y", "a key that is not text"),
    ("true: x\nTrue: y", "a key that is not text"),
    ("yes: 1\ntrue: 2", "a key that is not text"),
    ("~: 1", "a key that is not text"),
    ("1.0: 1", "a key that is not text"),
    ("? [a]\n: 1", "(a key that is no text)"),
    ("? {a: 1}\n: 1", "(a key that is no text)"),
    ("seed: ${oc.env:HOME}", "an interpolation"),
    ("seed: '${oc.env:HOME}'", "an interpolation"),
    ('seed: "\\x24{oc.env:HOME}"', "an interpolation"),
    ("seed: |\n  ${oc.env:HOME}", "an interpolation"),
    ("seed: a ${name} b", "an interpolation"),
    ("seed: \\${name}", "an interpolation"),
    ("a: [[{b: '${name}'}]]", "an interpolation"),
    ("'${name}': 1", "an interpolation"),
    ("seed: ???", "an interpolation"),
    ("seed: '???'", "an interpolation"),
    ("a: [" + "x, " * 20_000 + "x]", "more than 32 levels or 20000 entries"),
    ("a: " + "[" * 40 + "]" * 40, "more than 32 levels"),
    ("a: " + "[" * 90_000, "is not valid YAML"),
    ("a: {" + "b: {" * 900 + "}" * 901, "more than 32 levels"),
    ("a: " + "x" * 200_000, "more than 200000 characters"),
    ("a: 0x" + "f" * 17, "a whole number of more than 64 bits"),
    ("a: " + "9" * 5000, "is not valid YAML"),
    ("a: .nan", "has the number nan"),
    ("a: -.inf", "has the number -inf"),
    ("- a", "is not a mapping; expected YAML"),
    ("", "is not a mapping"),
    ("a", "is not a mapping"),
    ("${a}", "is not a mapping"),
    ("a: [", "is not valid YAML (near line "),
    ("a: <<", "a merge key"),
    ("'<<': {a: 1}", "a merge key"),
    ("a: 0x_", "is not valid YAML"),
    ("{high: 1, !!timestamp 2020-13-45log: true}", "has a tag"),
    ("a: 1\n--- \nb: 2", "is not valid YAML"),
    ('a: "\\ud800"', "is not valid YAML"),
    ("a: \ud800", "half a character"),
    ("a: \x00", "is not valid YAML"),
    ("%YAML 9.9\n---\na: 1", "is not valid YAML"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=lambda value: value[:20])
def test_what_two_readers_could_read_differently_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping(text, what="it")
    sentence = str(caught.value)
    assert words in sentence
    assert len(sentence) < 200
    assert sentence.isascii()
    assert sentence.isprintable()
    with pytest.raises(ConfigError):
        load_experiment(text or "- x")


def test_a_refusal_never_quotes_the_text() -> None:
    secret = "mueller_anna"
    for text in (f"{secret}: 1\n{secret}: 2", f"a: !{secret} x", f"a: *{secret}", f"a: [{secret}"):
        with pytest.raises(ConfigError) as caught:
            load_mapping(text, what="it")
        assert secret not in str(caught.value)


def test_plain_values_are_read_as_they_stand() -> None:
    text = "a: 1\nb: [true, 1.5, x, null]\nc: {'d e': 2020-01-01, f: 1.0e-05}\ng: '<<'\nh: $x {}\n"
    assert load_mapping(text, what="it") == {
        "a": 1,
        "b": [True, 1.5, "x", None],
        "c": {"d e": "2020-01-01", "f": 1e-5},
        "g": "<<",
        "h": "$x {}",
    }
    assert load_mapping("nodes: {a: 18446744073709551615}", what="it")["nodes"]["a"] == 2**64 - 1


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["experiment=pneumonia"],
        ["aggregation=secure"],
        ["privacy=dp_sgd", "privacy.epsilon=3"],
        ["search=pneumonia"],
        ["+deployment.nodes={munich: 18446744073709551615}"],
    ],
)
def test_what_the_coordinator_writes_is_plain(overrides: list[str]) -> None:
    experiment = parse(Experiment, compose(overrides=overrides))
    text = to_yaml(experiment)
    assert load_experiment(text) == experiment
    assert load_mapping(text, what="it")["name"] == experiment.name


def test_a_number_is_written_as_its_field_has_it() -> None:
    """Both ends of secure aggregation write the experiment: in one way, however it was set."""
    whole, same = Experiment(), Experiment()
    whole.federation.round_timeout, same.federation.round_timeout = 2, 2.0
    assert to_yaml(whole) == to_yaml(same) == to_yaml(load_experiment(to_yaml(whole)))


VISIBLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
NAMES = st.text(VISIBLE, min_size=1, max_size=20).filter(
    lambda text: "${" not in text and text.strip() != "???"
)


@settings(max_examples=15)
@given(tags=st.lists(NAMES, min_size=2, max_size=9, unique=True))
def test_honest_texts_have_none_of_what_is_refused(tags: list[str]) -> None:
    experiment = Experiment(tracking=TrackingConfig(tags=tags))
    assert load_mapping(to_yaml(experiment), what="it")["tracking"]["tags"] == tags


@given(st.text(max_size=200))
def test_any_text_is_a_mapping_of_plain_values_or_one_clear_error(text: str) -> None:
    try:
        content = load_mapping(text, what="it")
    except ConfigError:
        return
    assert all(isinstance(key, str) for key in content)
    assert content == yaml.safe_load(yaml.safe_dump(content))


def test_the_hospitals_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSPITAL_SECRET", "424242")
    with pytest.raises(ConfigError, match="an interpolation") as caught:
        load_experiment("name: pneumonia\nseed: ${oc.env:HOSPITAL_SECRET}\n")
    assert "424242" not in str(caught.value)
