import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import DataError, PolicyRefusal
from primia_flwr.site.bundle.contents import inspect, read_file, sha256
from tests.site.bundle_maker import PROJECT, make_bundle


def test_description_of_an_honest_bundle() -> None:
    content = make_bundle({"light.py": "app = 1\n"})
    bundle = inspect(content)
    assert (bundle.app_id, bundle.version) == ("tests/light-app", "1.0.0")
    assert {f.path: f.size for f in bundle.files} == {
        "pyproject.toml": len(PROJECT),
        "light.py": 8,
    }
    assert bundle.sha256 == sha256(content)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_are_anything_but_a_bundle_or_a_refusal(noise: bytes, position: int) -> None:
    content = make_bundle()
    for candidate in (noise, content[:position] + noise + content[position + len(noise) :]):
        try:
            described = inspect(candidate)
        except PolicyRefusal:
            continue
        assert described.sha256 == sha256(candidate)


def test_a_file_of_a_bundle_is_shown_as_it_is() -> None:
    content = make_bundle({"light.py": "a = 1\n\tb = '[/x]'\n"})
    assert read_file(content, "light.py") == "a = 1\n\tb = '[/x]'\n"
    with pytest.raises(DataError, match=r"file=other\\u001b\.py"):
        read_file(content, "other\x1b.py")
