from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.bundle.names import check_name, check_shadows, check_together

HONEST = [
    *("pyproject.toml", "LICENSE", ".info/CONTENT", "clients/client_app.py", "conf/config.yaml"),
    *("conf/hydra/sweeper/optuna.yaml", "primia_flwr/__init__.py", "light/server.py"),
    *("README.md", "a-b/c_d.v2.json", "strategies/aggregators/secure/aggregator.py"),
]


@pytest.mark.parametrize("name", HONEST)
def test_names_of_an_honest_bundle_pass(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("./clients/a.py", "clients/./a.py", "clients//a.py", "/a.py", "//a.py", "a.py/"),
        *("../a.py", "clients/../a.py", "clients/..", "..", ".", "", "/", "clients/"),
        *("a\\..\\b.py", "clients\\a.py", "C:/a.py", "C:a.py", "c:\\a.py", "\\\\host\\a.py"),
        *("a.py ", " a.py", "a.py.", "clients /a.py", "clients./a.py", "a .py", "a\u00a0.py"),
        *("a\n.py", "a\x00.py", "a\x1b[2J.py", "a\u202e.py", "a\ufeff.py", "é.py", "\uff41.py"),
        *("[/x]", "[bold]a.py", "a'.py", 'a".py', "a,b.py", "a:b.py", "a*.py", "~/a.py", "$a.py"),
        *(".hidden.py", ".git/config.py", ".info/x", ".info/x.py", ".INFO/CONTENT", ".info"),
        *("flwr-1.0.dist-info/entry.txt", "x.egg-info/entry.txt", "a.b/c.py"),
        *("noending", "Makefile", "a/b", "x" * 201 + ".py", "/".join(["d"] * 13) + "/a.py"),
        *("-a.py", "+.py", "a.", ".py"),
    ],
)
def test_what_is_no_plain_relative_path_is_refused(name: str) -> None:
    with pytest.raises(PolicyRefusal, match="expected plain files"):
        check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a.pyc",
            "a.pyo",
            "a.so",
            "a.pyd",
            "a.dll",
            "a.dylib",
            "a.pth",
            "a.exe",
            "a.zip",
            "a.egg",
        ),
        *("a.cpython-311-x86_64-linux-gnu.so", "a.abi3.so", "clients/a.cpython-311.pyc", "a.bin"),
        *("a.pkl", "a.pt", "a.pyw", "a.pyx", "a.sh"),
    ],
)
def test_what_is_no_text_is_refused(name: str) -> None:
    with pytest.raises(PolicyRefusal, match="expected text files"):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["A.PY", "a.Py", "a.SO", "a.pyC", "clients/__PyCache__/a.cpython-311.PYC"]
)
def test_endings_have_one_case(name: str) -> None:
    with pytest.raises(PolicyRefusal, match="expected plain files"):
        check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("sitecustomize.py", "usercustomize.py", "SiteCustomize.py", "clients/sitecustomize.py"),
        *("sitecustomize/__init__.py", "clients/__pycache__/a.py", "__pycache__/a.txt"),
        *("__PYCACHE__/a.json", "usercustomize.v2.py"),
    ],
)
def test_what_python_runs_or_reads_by_itself_is_refused(name: str) -> None:
    with pytest.raises(PolicyRefusal, match="no bytecode"):
        check_name(name)


@pytest.mark.parametrize(
    "names",
    [
        ["a.py", "A.py"],
        ["clients/a.py", "clients/A.py"],
        ["clients/a.py", "Clients/b.py"],
        ["LICENSE", "LICENSE/a.py"],
        ["a.py", "a.py/b.py"],
        ["a/b.py", "a/b.py/c/d.py"],
        ["LICENSE", "license/a.py"],
    ],
)
def test_two_spellings_and_files_that_are_folders_are_refused(names: list[str]) -> None:
    with pytest.raises(PolicyRefusal, match="expected one spelling"):
        check_together(names)
    with pytest.raises(PolicyRefusal, match="expected one spelling"):
        check_together(names[::-1])


@pytest.mark.parametrize(
    "names",
    [
        ["clients/app.py", "clients/app/__init__.py"],
        ["clients/app.py", "clients/App/x.yaml"],
        ["app.py", "app/deep/x.py"],
    ],
)
def test_a_module_beside_a_package_of_its_name_is_refused(names: list[str]) -> None:
    with pytest.raises(PolicyRefusal, match="Python would run only one"):
        check_together(names)


def test_an_honest_list_of_names_passes() -> None:
    check_together(HONEST)
    check_shadows(HONEST)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "torch/__init__.py",
            "json.py",
            "json/a.py",
            "numpy/x.txt",
            "flwr/__init__.py",
            "yaml.py",
        ),
        *("os.py", "hydra/conf.yaml", "omegaconf/__init__.py", "importlib/a.py", "_socket.py"),
        *("__main__.py", "builtins.py", "encodings/utf_8.py"),
    ],
)
def test_nothing_takes_the_place_of_an_installed_module(name: str) -> None:
    with pytest.raises(PolicyRefusal, match=r"expected no name of a module"):
        check_shadows(["light.py", name])


PARTS = st.sampled_from(
    ["a", "A", "b.py", "B.py", "..", ".", "", "c", "c.py", "LICENSE", "a.py", " "]
)


@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), max_size=5))
def test_accepted_names_are_as_many_files_once_unpacked(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    try:
        for name in names:
            check_name(name)
        check_together(names)
    except PolicyRefusal:
        return
    if len(set(names)) < len(names):  # refused where the zip file is read
        return
    folder = tmp_path_factory.mktemp("unpacked")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.relative_to(folder).as_posix() for path in found} == set(names)
    assert len({str(path).casefold() for path in found}) == len(names)
    assert (
        Path(folder).resolve() in {p for path in found for p in path.resolve().parents} or not names
    )
