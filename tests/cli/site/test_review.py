import json
from pathlib import Path

import pytest

from primia_flwr.cli.command import call
from primia_flwr.cli.site import review
from primia_flwr.errors import DataError
from primia_flwr.flower.bundle import stage_bundle
from primia_flwr.site.bundle.approval import approve, approve_file
from primia_flwr.site.bundle.contents import BundleStore, sha256
from primia_flwr.site.bundle.difference import approved_before, changed_lines, differs
from primia_flwr.site.policy import load_policy
from tests.site.bundle_maker import make_bundle

OLD = {"light.py": "app = 1\nkept = 0\n", "gone.py": "a = 1\n"}
NEW = {"light.py": "app = 2\nkept = 0\n", "fresh.py": "b = 1\n"}


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text("site: munich\nsuperlink: fl.example.org:9391\napproved_bundles: []\n")
    return file


def shown(site_file: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict, str]:
    assert call(review.COMMAND, [f"site={site_file}", *words]) == 0
    out = capsys.readouterr().out
    return json.loads(out.splitlines()[-1]), out


def test_a_bundle_is_compared_with_the_one_approved_last(
    site_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, files in (("older", {"light.py": "app = 0\n"}), ("old", OLD)):
        (tmp_path / f"{name}.fab").write_bytes(make_bundle(files))
        approve_file(site_file, tmp_path / f"{name}.fab")
    old, new = make_bundle(OLD), make_bundle(NEW)
    BundleStore(load_policy(site_file).bundle_folder).add(new)
    found, text = shown(site_file, capsys, f"bundle={sha256(new)}")
    assert found["approved_before"] == sha256(old)
    assert found["differs"] == {
        "added": ["fresh.py"],
        "removed": ["gone.py"],
        "changed": ["light.py"],
    }
    assert found["as_installed"] is False
    assert "+ fresh.py" in text
    assert "- gone.py" in text
    assert "~ light.py" in text
    _, text = shown(site_file, capsys, f"bundle={sha256(new)}", "diff=true", "file=light.py")
    assert text.splitlines()[:6] == [
        "--- before/light.py",
        "+++ now/light.py",
        "@@ -1,2 +1,2 @@",
        "-app = 1",
        "+app = 2",
        " kept = 0",
    ]
    found, _ = shown(site_file, capsys, f"bundle={sha256(new)}", "diff=true")
    assert found["differs"] == ["fresh.py", "gone.py", "light.py"]


def test_what_is_installed_here_is_said_to_be_the_same(
    site_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = stage_bundle(tmp_path / "own").content
    BundleStore(load_policy(site_file).bundle_folder).add(own)
    found, text = shown(site_file, capsys, f"bundle={sha256(own)}")
    assert found["as_installed"] is True
    assert "It is the same as what is installed here." in text
    _, text = shown(site_file, capsys)
    assert "not approved, the same as what is installed here" in text


def test_without_one_to_compare_with_all_is_new(
    site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = make_bundle(NEW)
    BundleStore(load_policy(site_file).bundle_folder).add(new)
    found, text = shown(site_file, capsys, f"bundle={sha256(new)}")
    assert (found["approved_before"], found["differs"]) == ("", {})
    assert "all of it is new" in text
    assert call(review.COMMAND, [f"site={site_file}", f"bundle={sha256(new)}", "diff=true"]) == 2
    assert "expected one to compare with" in capsys.readouterr().err


def test_an_approval_that_was_taken_back_is_not_compared_with(site_file: Path) -> None:
    content = make_bundle(OLD)
    BundleStore(load_policy(site_file).bundle_folder).add(content)
    approve(site_file, sha256(content))
    assert approved_before(load_policy(site_file), "ab" * 32) == sha256(content)
    text = site_file.read_text()
    lines = [line for line in text.splitlines() if sha256(content) not in line]
    site_file.write_text("\n".join(lines).replace("approved_bundles:", "approved_bundles: []"))
    assert approved_before(load_policy(site_file), "ab" * 32) == ""


def test_a_file_that_neither_has_is_refused() -> None:
    old, new = make_bundle({"light.py": "a = 1\n"}), make_bundle({"light.py": "a = 2\n"})
    assert differs(old, old).paths == []
    assert changed_lines(old, old, "light.py") == []
    with pytest.raises(DataError, match=r"expected a file of the bundle"):
        changed_lines(old, new, "../etc/passwd")
