import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.bundle.contents import inspect, read_files
from tests.site.bundle_maker import PROJECT, make_bundle, make_installable

ELF = b"\x7fELF\x02\x01\x01" + bytes(9)
MACH_O = b"\xcf\xfa\xed\xfe\x07\x00\x00\x01"
PE = b"MZ\x90\x00\x03\x00\x00\x00"


@pytest.mark.parametrize(
    "native", [ELF, MACH_O, PE, b"PK\x03\x04", b"\xa7\x0d\x0d\x0a" + bytes(12)]
)
@pytest.mark.parametrize("name", ["light.py", "conf/a.yaml", "LICENSE", "README.md"])
def test_native_code_and_bytecode_under_any_name_are_refused(native: bytes, name: str) -> None:
    with pytest.raises(PolicyRefusal, match="is no text in UTF-8"):
        inspect(make_bundle({name: native}))


@pytest.mark.parametrize(
    "text",
    [
        "a = 1\x00\n",
        "a = 1\x1b[2J\n",
        "access = 'user\u202e \u2066# only for admins\u2069 \u2066'\n",  # trojan source
        "a = 1 # \u200b\n",
        "\ufeffa = 1\n",
        "# a comment\rimport os\n",
        "# a comment\x0cimport os\n",
        "# a comment\u2028import os\n",
        "# a comment\x85import os\n",
        "a\u00ad = 1\n",
        "# \ue000\n",
        "# \U000e0041\n",
    ],
)
def test_characters_that_an_editor_does_not_show_are_refused(text: str) -> None:
    with pytest.raises(PolicyRefusal, match="every character can be seen"):
        inspect(make_bundle({"light.py": text}))


@pytest.mark.parametrize(
    "text",
    [
        "# -*- coding: utf-7 -*-\n# +AAo-import os\n",
        "#!/usr/bin/python\n# vim: set fileencoding=latin-1 :\na = 1\n",
        "# coding: rot13\nvzcbeg bf\n",
        "# coding: no-such-codec\n",
        "# coding=utf-16\na = 1\n",
        "# coding: unicode_escape\n# \\nimport os\n",
    ],
)
def test_a_source_that_python_would_decode_otherwise_is_refused(text: str) -> None:
    with pytest.raises(PolicyRefusal, match="sources that read as they run"):
        inspect(make_bundle({"light.py": text}))


def test_honest_texts_pass() -> None:
    texts = {
        "light.py": "# -*- coding: utf-8 -*-\n# ε ≤ 3, naïve\nname = 'Zürich'\n",
        "conf/a.yaml": "a: 1\r\nb:\t2\r\n",
        "README.md": "",
    }
    assert read_files(make_bundle(texts))["light.py"] == texts["light.py"].encode()


def test_the_list_of_files_must_be_that_of_the_files() -> None:
    honest = {"light.py": "app = 1\n", "b.py": "b = 1\n"}
    assert inspect(make_installable(honest)).app_id == "tests/light-app"
    with pytest.raises(PolicyRefusal, match=r"\.info/CONTENT does not fit"):
        inspect(make_installable(honest, unlisted=("b.py",)))
    good = read_files(make_installable(honest))[".info/CONTENT"].decode()
    files = {k: v for k, v in read_files(make_installable(honest)).items() if k != "pyproject.toml"}
    for wrong in (
        good + "\n/etc/passwd,aa,8",
        good + "\n" + good.splitlines()[0],
        good.replace(",", ";"),
        good.replace("b.py", "c.py"),
        "",
    ):
        with pytest.raises(PolicyRefusal, match=r"\.info/CONTENT does not fit"):
            inspect(make_bundle({**files, ".info/CONTENT": wrong}))


def table(lines: str) -> str:
    return PROJECT + lines


@pytest.mark.parametrize(
    "project",
    [
        table("# " + " " * 300_000),
        table("a = " + "[" * 40 + "]" * 40 + "\n"),
        table("a = " + "[" * 20_000 + "]" * 20_000 + "\n"),
        table("k" * 201 + " = 1\n"),
        table(".".join("a" * 40) + " = 1\n"),
        table("".join(f"k{i} = 1\n" for i in range(5001))),
        table("a = [" + "1," * 6000 + "]\n"),
    ],
)
def test_a_project_file_that_grows_when_it_is_read_is_refused(project: str) -> None:
    with pytest.raises(PolicyRefusal, match=r"pyproject\.toml (has|cannot)|or one of more than"):
        inspect(make_bundle(project=project))


@pytest.mark.parametrize(
    ("project", "sentence"),
    [
        ("", "publisher=''"),
        ("a = [", "cannot be read; expected TOML"),
        (b"\xff\xfe", "is no text in UTF-8"),
        ("project = 3\ntool = 4", "publisher=''"),
        (PROJECT.replace('"tests"', "7"), "publisher=''"),
        (PROJECT.replace('"tests"', '"../.."'), "publisher='../..'"),
        (PROJECT.replace('"tests"', '"a/b"'), "publisher='a/b'"),
        (PROJECT.replace('"tests"', '"te sts"'), "publisher='te sts'"),
        (PROJECT.replace('"1.0.0"', '"1..0"'), "version='1..0'"),
        (PROJECT.replace('"1.0.0"', '"1.0.0."'), "version='1.0.0.'"),
        (PROJECT.replace('"light-app"', '"\\u0430"'), r"name='\\u0430'"),
        (PROJECT.replace('"light-app"', '"' + "x" * 200 + '"'), "name='xxxx"),
    ],
)
def test_what_a_bundle_says_of_itself_is_checked(project: str | bytes, sentence: str) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        inspect(make_bundle(project=project))
    assert sentence.replace("\\\\", "\\") in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isascii()


def test_a_bundle_without_a_project_file_is_refused() -> None:
    content = make_bundle().replace(b"pyproject.toml", b"pyproject.text")
    with pytest.raises(PolicyRefusal, match=r"expected text files|has no pyproject\.toml"):
        inspect(content)


@given(st.text(max_size=60))
def test_any_text_is_shown_whole_or_refused(text: str) -> None:
    try:
        files = read_files(make_bundle({"light.py": text.encode("utf-8", "surrogatepass")}))
    except PolicyRefusal:
        return
    shown = files["light.py"].decode().replace("\r\n", "\n")
    assert all(c in "\n\t" or c.isprintable() or c.isspace() for c in shown)
    assert len(shown.splitlines()) <= shown.count("\n") + 1
