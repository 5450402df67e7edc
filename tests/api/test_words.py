"""Settings of Python as words: what is read back is what was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primia_flwr.api.words import as_path, as_words
from primia_flwr.config.load import compose
from primia_flwr.errors import ConfigError

AWKWARD = st.text(st.sampled_from("ab \\'\"${}[],=:#()äß%\t|*?~+!@&;<>^"), max_size=8)


@settings(max_examples=8)
@given(st.lists(AWKWARD.filter(lambda text: text != "???"), max_size=30))
@example(["Röntgen [neu], 2=3 (a)\\", "${oc.env:HOME}", "null", "\\'${x}", ""])
def test_text_is_taken_as_it_is(texts: list[str]) -> None:
    cfg = compose("config", as_words([{"data.classes": texts, "data.root": "".join(texts)}]))
    assert list(cfg.data.classes) == texts
    assert cfg.data.root == "".join(texts)


def test_each_kind_of_value_is_read_back() -> None:
    given: dict[str, Any] = {
        "model": "vgg16",
        "federation.sites": ["a, b", "c"],
        "federation.rounds": np.int64(7),
        "training.learning_rate": 2e-5,
        "quiet": True,
        "data.root": Path("x y"),
        "data.columns": {"path": "Image Index", "label": ""},
        "training.betas": (0.5, 0.25),
    }
    cfg = compose("config", as_words(["seed=3", given]))
    assert (cfg.model.name, cfg.seed, cfg.quiet, cfg.data.root) == ("vgg16", 3, True, "x y")
    assert list(cfg.federation.sites) == ["a, b", "c"]
    assert (cfg.federation.rounds, cfg.training.learning_rate) == (7, 2e-5)
    assert cfg.data.columns.path == "Image Index"
    assert list(cfg.training.betas) == [0.5, 0.25]
    assert as_words([{"experiment": None}]) == ["experiment=null"]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        (3, "settings: 3 is a int; expected words such as"),
        (["seed=1"], r"settings: \['seed=1'\] is a list; expected words"),
        ({"a b": 1}, "settings: 'a b' is no key"),
        ({4: 1}, "settings: 4 is no key"),
        ({"seed": b"1"}, "settings: seed=b'1' is a bytes; expected text, a path, a number"),
        ({"seed": object}, "settings: seed=<class 'object'> is a type"),
        ({"data.columns": {"x=": ""}}, "settings: 'x=' is no key"),
    ],
)
def test_what_is_no_setting_is_refused(setting: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}"):
        as_words([setting])


@pytest.mark.parametrize("path", [None, 3, b"run", ["run"]])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(ConfigError, match=r"^run=.*expected the path of a folder or a file"):
        as_path("run", path)
