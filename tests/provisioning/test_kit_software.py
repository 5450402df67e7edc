import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from primia_flwr import __version__
from primia_flwr.config.root import app_root
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.federation import Plan, provision
from primia_flwr.provisioning.kit import wheel as wheel_module
from primia_flwr.provisioning.kit.units import site_unit, units
from primia_flwr.provisioning.kit.wheel import make_wheel
from primia_flwr.provisioning.roster import Roster
from primia_flwr.provisioning.service import ServicePlan, provision_service
from primia_flwr.provisioning.service_changes import ServiceFolder

SYSTEMD = shutil.which("systemd-analyze")


def test_a_kit_brings_the_wheel_and_its_readme_the_hash(tmp_path: Path) -> None:
    plan = Plan("fl", ["munich"], "127.0.0.1", 9, software=True)
    kit = provision(plan, tmp_path / "fl").kits["munich"]
    name, content = make_wheel()
    assert name == f"primia_flwr-{__version__}-py3-none-any.whl"
    assert (kit / name).read_bytes() == content
    readme = (kit / "README.md").read_text()
    assert hashlib.sha256(content).hexdigest() in readme
    assert f"pip install ./{name}" in readme
    assert "pip install primia-flwr" not in readme
    with zipfile.ZipFile(kit.with_suffix(".zip")) as archive:
        assert archive.read(f"kit-munich/{name}") == content


def test_the_kits_of_a_service_bring_it_too(tmp_path: Path) -> None:
    plan = ServicePlan("trial", "localhost", "localhost", ["clinic"], software=True)
    folder, (name, content) = tmp_path / "service", make_wheel()
    kits = dict(provision_service(plan, folder).kits)
    changed = ServiceFolder(folder, software=True).change(add=["other"], days=9)
    kits |= {f"kit-{name}": kit for name, kit in changed.kits.items()}
    assert len(kits) == 4
    for kit in kits.values():
        assert (kit / name).read_bytes() == content
        readme = (kit / "README.md").read_text()
        assert hashlib.sha256(content).hexdigest() in readme
        assert "pip install primia-flwr" not in readme


def test_the_same_files_make_the_same_wheel() -> None:
    first = make_wheel()
    make_wheel.cache_clear()
    assert make_wheel() == first


def test_a_wheel_has_all_that_is_installed_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(make_wheel()[1])) as archive:
        names = archive.namelist()
        record = archive.read(f"primia_flwr-{__version__}.dist-info/RECORD").decode()
    assert {line.partition(",")[0] for line in record.splitlines()} == set(names)
    assert {
        "primia_flwr/cli/main.py",
        "primia_flwr/py.typed",
        "primia_flwr/_bundle/clients/client_app.py",
        "primia_flwr/_bundle/conf/config.yaml",
        "primia_flwr/_bundle/pyproject.toml",
    } <= set(names)
    assert not [name for name in names if name.endswith(".pyc") or "/_bundle/_bundle" in name]
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


@pytest.mark.slow
def test_it_holds_what_the_build_tool_would_put_there(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", app_root(), checkout], check=True)
    pip = [sys.executable, "-m", "pip"]
    command = [*pip, "wheel", "--quiet", "--no-deps", "-w", tmp_path, checkout]
    subprocess.run(command, check=True)
    (built,) = tmp_path.glob("*.whl")
    code = "from primia_flwr.provisioning.kit.wheel import make_wheel; import sys; "
    code += "open(sys.argv[1], 'wb').write(make_wheel()[1])"
    own = tmp_path / "own" / built.name
    own.parent.mkdir()
    subprocess.run([sys.executable, "-c", code, own], cwd=checkout, check=True)
    contents = []
    for file in (built, own):
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if ".dist-info/" not in name]
            contents.append({name: archive.read(name) for name in names})
    assert contents[0] == contents[1]
    target = tmp_path / "installed"
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", target, own]
    subprocess.run(install, check=True)
    assert (target / "bin" / "primia").is_file()


def test_what_is_not_installed_makes_no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_module, "_PACKAGE", "no-such-package-here")
    make_wheel.cache_clear()
    with pytest.raises(FederationError, match=r"pip install -e \. in the checkout"):
        make_wheel()


def test_a_sites_unit_has_an_account_and_may_write_into_its_kit_only() -> None:
    unit = site_unit("munich", "fl").splitlines()
    assert {
        "User=primia",
        "Restart=always",
        "WorkingDirectory=/opt/primia/kit-munich",
        "ReadWritePaths=/opt/primia/kit-munich",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "UMask=0077",
    } <= set(unit)


@pytest.mark.skipif(SYSTEMD is None, reason="systemd-analyze is not here")
def test_systemd_understands_every_unit(tmp_path: Path) -> None:
    roster = Roster("fl", "127.0.0.1:9", "", ())
    texts = units(tmp_path, roster, port=9, address="127.0.0.1:9")
    texts["primia-site-munich.service"] = site_unit("munich", "fl")
    for name, text in texts.items():
        # A program and an account that are here, in the place of those at the hospital.
        text = text.replace("/opt/primia/site-env/bin/primia", sys.executable)
        (tmp_path / name).write_text(text.replace("User=primia", "User=root"))
    command = [str(SYSTEMD), "verify", "--man=no", *(str(tmp_path / name) for name in texts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "primia" in line] == []
