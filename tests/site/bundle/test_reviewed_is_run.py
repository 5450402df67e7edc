"""What `primia site review` shows is what runs: bundles whose text is not their code.

Through the product's own review, approval, judgement and unpacking, and Flower's own installation
and loading, in a process of its own.
"""

import importlib._bootstrap_external as machinery
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.bundle import installed
from primia_flwr.site.bundle.approval import approve, approve_file
from primia_flwr.site.bundle.contents import BundleStore, inspect, read_file, sha256
from primia_flwr.site.policy import load_policy
from tests.site.bundle_maker import make_installable

CLIENT = "from flwr.clientapp import ClientApp\nprint('{} CODE RUNS')\napp = ClientApp()\n"
HONEST, HOSTILE = CLIENT.format("HONEST"), CLIENT.format("HOSTILE")
FILES = {"light/__init__.py": "from light.client import app\n", "light/client.py": HONEST}
BUNDLE = make_installable(FILES)
PYC = f"light/__pycache__/client.{sys.implementation.cache_tag}.pyc"
BYTECODE = bytes(
    machinery._code_to_hash_pyc(compile(HOSTILE, "light/client.py", "exec"), bytes(8), False)  # type: ignore[attr-defined]
)
POLICY = """\
site: munich
superlink: fl.example.org:9391
approved_bundles: []
allowed_experiments: [pneumonia]
"""
# The gate's own steps around Flower's, as `primia_flwr.site.gate` takes them.
CHILD = """
import sys
from pathlib import Path
from primia_flwr.site.bundle import installed, own_app
from primia_flwr.site.bundle.contents import inspect
from primia_flwr.site.policy import load_policy
from flwr.cli.install import install_from_fab
from flwr.clientapp.utils import get_load_client_app_fn
content, policy = Path(sys.argv[2]).read_bytes(), load_policy(Path(sys.argv[1]))
bundle = inspect(content)
installed.without_bytecode()
home = installed.prepare(policy.bundle_folder, bundle, content)
install_from_fab(content, skip_prompt=True)
installed.check_unpacked(home, content)
own_app.forget()
get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)(
    bundle.app_id, bundle.version, bundle.sha256)
"""


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(POLICY)
    return file


def run_bundle(policy_file: Path, content: bytes) -> str:
    """Unpack and load a bundle in a process of its own, and return what it printed."""
    (policy_file.parent / "b.fab").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(policy_file), str(policy_file.parent / "b.fab")],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
    )
    return done.stdout + done.stderr


def app_folder(policy_file: Path) -> Path:
    home = load_policy(policy_file).bundle_folder / "unpacked" / sha256(BUNDLE)
    (app,) = (home / "apps").iterdir()
    return app


@pytest.mark.parametrize(
    "extra",
    [
        {"./light/client.py": HOSTILE},
        {"light//client.py": HOSTILE},
        {"light/./client.py": HOSTILE},
        {"light/../light/client.py": HOSTILE},
        {"light/Client.py": HOSTILE},
        {"light/client/__init__.py": HOSTILE},
        {PYC: BYTECODE},
        {"light/client.pyc": BYTECODE},
        {"light/client.so": b"\x7fELF"},
        {"sitecustomize.py": HOSTILE},
        {"flwr/clientapp.py": HOSTILE},
        {"light.py": HOSTILE},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_a_bundle_with_two_readings_is_neither_shown_nor_approved_nor_kept(
    policy_file: Path, extra: dict[str, str | bytes]
) -> None:
    content = make_installable({**FILES, **extra}, unlisted=tuple(extra))
    with pytest.raises(PolicyRefusal):
        inspect(content)
    with pytest.raises(PolicyRefusal):
        read_file(content, "light/client.py")
    (policy_file.parent / "hostile.fab").write_bytes(content)
    with pytest.raises(PolicyRefusal):
        approve_file(policy_file, policy_file.parent / "hostile.fab")
    assert load_policy(policy_file).approved_bundles == []
    assert BundleStore(load_policy(policy_file).bundle_folder).hashes() == []


def test_honest_code_runs_again_and_again_and_leaves_no_bytecode(policy_file: Path) -> None:
    approve(policy_file, sha256(BUNDLE))
    assert read_file(BUNDLE, "light/client.py") == HONEST
    for _ in range(2):
        assert "HONEST CODE RUNS" in run_bundle(policy_file, BUNDLE)
        app = app_folder(policy_file)
        assert list(app.rglob("*.pyc")) == []
        assert installed.is_intact(app, BUNDLE)


def test_bytecode_that_lies_there_already_does_not_run(policy_file: Path) -> None:
    run_bundle(policy_file, BUNDLE)
    pyc = app_folder(policy_file) / PYC
    pyc.parent.mkdir()
    pyc.write_bytes(BYTECODE)
    assert not installed.is_intact(app_folder(policy_file), BUNDLE)
    output = run_bundle(policy_file, BUNDLE)
    assert "HONEST CODE RUNS" in output
    assert "HOSTILE" not in output
    assert not pyc.exists()


def add_file(app: Path) -> None:
    (app / "sitecustomize.py").write_text(HOSTILE)


def change_file(app: Path) -> None:
    (app / "light" / "client.py").write_text(HOSTILE)


def remove_file(app: Path) -> None:
    (app / "LICENSE").unlink()


def add_empty_folder(app: Path) -> None:
    (app / "torch").mkdir()


def link_file(app: Path) -> None:
    file = app / "light" / "client.py"
    file.rename(app.parent.parent / "client.py")
    file.symlink_to(app.parent.parent / "client.py")


def link_folder(app: Path) -> None:
    (app / "light").rename(app.parent.parent / "light")
    (app / "light").symlink_to(app.parent.parent / "light")


def link_elsewhere(app: Path) -> None:
    (app / "light" / "more").symlink_to("/tmp")


def dangling_link(app: Path) -> None:
    (app / "light" / "gone.py").symlink_to("/no/such/file")


def pipe(app: Path) -> None:
    os.mkfifo(app / "light" / "pipe.py")


CHANGES = [add_file, change_file, remove_file, add_empty_folder]
CHANGES += [link_file, link_folder, link_elsewhere, dangling_link, pipe]


def unpack(app: Path) -> None:
    app.mkdir(parents=True)
    for name in ("pyproject.toml", "LICENSE", *FILES):
        (app / name).parent.mkdir(exist_ok=True)
        (app / name).write_text(read_file(BUNDLE, name))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_folder_that_is_not_exactly_the_bundle_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    monkeypatch.setenv("FLWR_HOME", "nowhere")
    bundle = inspect(BUNDLE)
    home = installed.prepare(tmp_path, bundle, BUNDLE)
    app = home / "apps" / "tests.light-app.1.0.0.12345678"
    unpack(app)
    assert installed.is_intact(app, BUNDLE)
    installed.check_unpacked(home, BUNDLE)
    installed.prepare(tmp_path, bundle, BUNDLE)
    assert app.exists()
    change(app)  # type: ignore[operator]
    assert not installed.is_intact(app, BUNDLE)
    with pytest.raises(PolicyRefusal, match="not the bundle that was admitted"):
        installed.check_unpacked(home, BUNDLE)
    installed.prepare(tmp_path, bundle, BUNDLE)
    assert not app.exists()


@pytest.mark.parametrize("part", ["unpacked", "unpacked/{}", "unpacked/{}/apps"])
def test_a_linked_home_is_replaced_by_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setenv("FLWR_HOME", "nowhere")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("mine")
    link = tmp_path / "bundles" / part.format(sha256(BUNDLE))
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    home = installed.prepare(tmp_path / "bundles", inspect(BUNDLE), BUNDLE)
    assert not link.is_symlink()
    assert home.is_dir()
    assert os.environ["FLWR_HOME"] == str(home)
    assert (elsewhere / "kept.txt").read_text() == "mine"


def test_a_linked_app_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", "nowhere")
    home = installed.prepare(tmp_path, inspect(BUNDLE), BUNDLE)
    unpack(tmp_path / "elsewhere")
    link = home / "apps" / "tests.light-app.1.0.0.12345678"
    link.symlink_to(tmp_path / "elsewhere")
    assert not installed.is_intact(link, BUNDLE)
    installed.prepare(tmp_path, inspect(BUNDLE), BUNDLE)
    assert not link.is_symlink()
    assert (tmp_path / "elsewhere" / "LICENSE").is_file()
    shutil.rmtree(tmp_path / "elsewhere")
