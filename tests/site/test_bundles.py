import io
import stat
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from bundle_maker import PROJECT, make_bundle

from primia_flwr.errors import DataError, PolicyRefusal
from primia_flwr.site import bundles
from primia_flwr.site.approval import approve, approve_file
from primia_flwr.site.bundles import BundleStore, inspect, read_file, sha256
from primia_flwr.site.policy import load_policy
from primia_flwr.site.site_log import SiteLog


def test_description_of_an_honest_bundle() -> None:
    content = make_bundle({"light.py": "app = 1\n"})
    bundle = inspect(content)
    assert (bundle.app_id, bundle.version) == ("tests/light-app", "1.0.0")
    assert {f.path: f.size for f in bundle.files} == {
        "pyproject.toml": len(PROJECT),
        "light.py": 8,
    }
    assert bundle.sha256 == sha256(content)


@pytest.mark.parametrize(
    "name", ["../evil.py", "/etc/passwd", "a/../../b.py", "a\\b.py", "a\x1b[2J.py", "..", "a/./.."]
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(PolicyRefusal, match=r"expected plain files|cannot be read"):
        inspect(make_bundle({name: "x"}))


def test_links_duplicates_and_encryption_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link.py")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(PolicyRefusal, match=r"link\.py"):
        inspect(buffer.getvalue())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.py", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.py", "2")
    with pytest.raises(PolicyRefusal, match="names a file twice"):
        inspect(buffer.getvalue())


def test_bombs_are_refused_without_unpacking(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = make_bundle({"zeros.py": "0" * 3_000_000})
    assert len(bomb) < 10_000
    monkeypatch.setattr(bundles, "MAX_UNPACKED_BYTES", 2_000_000)
    with pytest.raises(PolicyRefusal, match="unpacks to more than 2000000"):
        inspect(bomb)
    monkeypatch.setattr(bundles, "MAX_BUNDLE_BYTES", 100)
    with pytest.raises(PolicyRefusal, match="expected at most 100"):
        inspect(bomb)
    monkeypatch.setattr(bundles, "MAX_FILES", 1)
    monkeypatch.setattr(bundles, "MAX_BUNDLE_BYTES", 10_000)
    with pytest.raises(PolicyRefusal, match="2 files"):
        inspect(bomb)


@pytest.mark.parametrize("publisher", ["../..", "a/b", "", "x" * 200])
def test_metadata_that_would_be_a_path_is_refused(publisher: str) -> None:
    with pytest.raises(PolicyRefusal, match="publisher="):
        inspect(make_bundle(project=PROJECT.replace('"tests"', f'"{publisher}"')))


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


def test_shown_text_cannot_steer_the_terminal() -> None:
    content = make_bundle({"light.py": "a = 1\x1b[2J\x00\u202e\n\tb\n"})
    assert read_file(content, "light.py") == "a = 1\\u001b[2J\\u0000\\u202e\n\tb\n"
    with pytest.raises(DataError, match=r"file='other\.py'"):
        read_file(content, "other.py")


def test_store_keeps_finds_and_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BundleStore(tmp_path / "bundles")
    first, second = make_bundle({"a.py": "1"}), make_bundle({"a.py": "2"})
    assert store.add(first)
    assert store.add(first)
    assert store.hashes() == [sha256(first)]
    assert store.find(sha256(first)[:8]) == sha256(first)
    assert store.read(sha256(first)) == first
    monkeypatch.setattr(bundles, "MAX_WAITING", 1)
    assert not store.add(second)
    for wrong in ("12", "zz" * 8, sha256(second)[:12], "../" * 4):
        with pytest.raises(DataError, match="bundle="):
            store.find(wrong)
    (tmp_path / "bundles" / f"{sha256(first)}.fab").write_bytes(second)
    with pytest.raises(DataError, match="was changed"):
        store.read(sha256(first))


POLICY = """\
# munich's policy
site: munich
superlink: fl.example.org:9391
# Code that may run.
{list}
min_sites: 3   # never fewer
"""
OTHER = "cd" * 32


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("approved_bundles: []", []),
        ("approved_bundles: []   # none yet", []),
        (f"approved_bundles:\n  - {OTHER}  # 2026-01-01", [OTHER]),
    ],
)
def test_approval_adds_one_line_and_keeps_comments(
    tmp_path: Path, before: str, kept: list[str]
) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(POLICY.format(list=before))
    file.chmod(0o640)
    digest = sha256(make_bundle())
    assert approve(file, digest, note="tests/light-app 1.0.0")
    assert not approve(file, digest)
    assert load_policy(file).approved_bundles == [digest, *kept]
    assert "# munich's policy" in file.read_text()
    assert "# never fewer" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    events = [e.event for e in SiteLog(load_policy(file).log_file).entries()]
    assert events == ["approved"]


def test_list_that_cannot_be_edited_safely_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    text = POLICY.format(list=f"approved_bundles: [{OTHER}]")
    file.write_text(text)
    with pytest.raises(DataError, match="add the line"):
        approve(file, "ab" * 32)
    assert file.read_text() == text


def test_approving_a_file_stores_it_too(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(POLICY.format(list="approved_bundles: []"))
    (tmp_path / "x.fab").write_bytes(make_bundle())
    digest = approve_file(tmp_path / "site.yaml", tmp_path / "x.fab")
    policy = load_policy(tmp_path / "site.yaml")
    assert policy.approved_bundles == [digest]
    assert BundleStore(policy.bundle_folder).hashes() == [digest]
