"""What is typed after a command: text as it is, other values as Hydra reads them."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, compose_experiment
from primia_flwr.config.typed import typed
from primia_flwr.errors import ConfigError

PATHS = (
    *("Bilder Ärzte", "a,b", "a=b", "[x]", "a (1)", "{x}", "it's", 'say "x"', "~/x", "a;b", "日本"),
    *(
        "C:\\Users\\x",
        "a\\",
        "a\\'b",
        "#x",
        "a&b",
        "a!b",
        "a:b",
        "007",
        "1e3",
        "1_000",
        "true",
        " x ",
    ),
    *(
        "choice(a,b)",
        "(?P<patient>P\\d+)_",
        "a\u0308",
        "\xa0x",
        "%",
        "@x",
        "$HOME",
        "*",
        "a|b",
        "<x>",
    ),
)


def read_back(text: str) -> str:
    """Return what the grammar of overrides reads in a typed text."""
    (word,) = typed([f"output_dir={text}"], Experiment)
    value = OverridesParser.create().parse_override(word).value()
    return value.text if isinstance(value, QuotedString) else str(value)


@pytest.mark.parametrize("path", PATHS)
def test_text_needs_no_quotes(path: str) -> None:
    assert read_back(path) == path


def test_a_home_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^~0/x begins with the home of a user who is none here"):
        read_back("~0/x")


def test_so_it_arrives() -> None:
    found = compose_experiment(["output_dir=Ä (1), [x]=it's\\", "data.root=007"])
    assert (found.output_dir, found.data.root) == ("Ä (1), [x]=it's\\", "007")


@settings(max_examples=100)
@given(st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=12))
def test_any_text_is_taken_as_it_is(text: str) -> None:
    if text not in ("???", "null", "") and text[:1] not in ("'", '"', "~"):
        assert read_back(text) == text


@pytest.mark.parametrize("words", ["'a, b'", '"a, b"'])
def test_quotes_around_the_whole_are_taken_off(words: str) -> None:
    assert compose_experiment([f"output_dir={words}"]).output_dir == "a, b"


@settings(max_examples=30)
@given(st.text(string.printable.translate({ord(c): None for c in "\t\n\r\x0b\x0c"}), max_size=9))
def test_what_was_typed_once_stays(text: str) -> None:
    if text != "???" and not text.startswith("~"):  # a home that is none is refused
        once = typed([f"name={text}"], Experiment)
        assert typed(once, Experiment) == once


def test_a_list_of_texts_keeps_each() -> None:
    found = compose_experiment(["data.classes=[krank ä, 01, 'a, b', c=d]"])
    assert found.data.classes == ["krank ä", "01", "a, b", "c=d"]


def test_a_mapping_of_texts_keeps_each() -> None:
    found = compose_experiment(["data.columns={path: Größe (px), label: Finding}"])
    assert found.data.columns == {"path": "Größe (px)", "label": "Finding"}


def test_an_option_that_the_yaml_leaves_out_needs_no_plus() -> None:
    words = typed(["data.columns.path=Bild=1"], Experiment)
    assert words == ["++data.columns.path='Bild=1'"]


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_plus_changes_nothing(plus: str) -> None:
    assert compose_experiment([f"{plus}seed=7"]).seed == 7


def test_in_a_sweep_commas_separate() -> None:
    words = ["name=ä b,c", "seed=1,2", "model=resnet18,vgg16", "baselines=[local],[]"]
    assert typed(words, Experiment, sweep=True) == [
        *("name='ä b','c'", "seed=1,2", "model=resnet18,vgg16", "baselines=[local],[]")
    ]


def test_root_alone_reads_the_files_there() -> None:
    assert compose_experiment(["data.root=scans"]).data.layout == "auto"
    assert compose_experiment(["data.manifest=a.csv"]).data.layout == "auto"
    assert compose_experiment([]).data.layout == "synthetic"
    assert compose_experiment(["data=folder", "data.root=scans"]).data.layout == "folder"


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.patient_pattern=\["):
        compose_experiment(["data.patient_pattern=[a"])


def test_a_folder_of_experiments_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "Ärzte's, neu" / "experiment"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text("# @package _global_\nseed: 5\n", encoding="utf-8")
    words = typed([f"experiment={folder / 'own.yaml'}"], Experiment)
    assert compose("config", words).seed == 5
