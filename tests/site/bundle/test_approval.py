import multiprocessing
from pathlib import Path

import pytest

from primia_flwr.cli.main import run as primia
from primia_flwr.errors import DataError, PolicyRefusal
from primia_flwr.site.bundle.approval import approve, approve_file
from primia_flwr.site.bundle.contents import BundleStore, sha256
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy
from tests.site.bundle_maker import make_bundle

POLICY = """\
# munich's policy
site: munich
superlink: fl.example.org:9391
# Code that may run.
{list}
min_sites: 3   # never fewer
"""
OTHER = "cd" * 32


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(POLICY.format(list="approved_bundles: []"))
    return file


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


def test_approving_a_file_stores_it_too(policy_file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.fab").write_bytes(make_bundle())
    digest = approve_file(policy_file, tmp_path / "x.fab")
    policy = load_policy(policy_file)
    assert policy.approved_bundles == [digest]
    assert BundleStore(policy.bundle_folder).hashes() == [digest]


@pytest.mark.parametrize("digest", ["ab" * 4, "ab" * 6, "ab" * 31, "AB" * 32, "ab" * 33, "", "x"])
def test_only_a_whole_hash_is_approved(policy_file: Path, digest: str) -> None:
    before = policy_file.read_text()
    with pytest.raises(DataError, match="expected the whole hash, 64 hex digits"):
        approve(policy_file, digest)
    assert policy_file.read_text() == before


@pytest.mark.parametrize("digits", [8, 12, 63])
def test_the_verb_demands_the_whole_hash_of_a_bundle_that_is_here(
    policy_file: Path, capsys: pytest.CaptureFixture[str], digits: int
) -> None:
    content = make_bundle()
    BundleStore(load_policy(policy_file).bundle_folder).add(content)
    site = f"site={policy_file}"
    assert primia(["site", "approve", sha256(content)[:digits], site]) == 2
    assert "expected the whole hash, 64 hex digits" in capsys.readouterr().err
    assert load_policy(policy_file).approved_bundles == []
    assert primia(["site", "approve", sha256(content), site]) == 0
    assert load_policy(policy_file).approved_bundles == [sha256(content)]


def test_the_verb_approves_a_hash_before_it_arrives_and_a_file(
    policy_file: Path, tmp_path: Path
) -> None:
    site = f"site={policy_file}"
    assert primia(["site", "approve", "12" * 32, site]) == 0
    (tmp_path / "x.fab").write_bytes(make_bundle())
    assert primia(["site", "approve", f"file={tmp_path}/x.fab", site]) == 0
    assert load_policy(policy_file).approved_bundles == [sha256(make_bundle()), "12" * 32]
    assert primia(["site", "approve", site]) == 2
    assert primia(["site", "approve", "12" * 32, f"file={tmp_path}/x.fab", site]) == 2
    assert primia(["site", "approve", f"file={tmp_path}/none.fab", site]) == 2


def test_the_verb_refuses_a_kept_bundle_that_could_not_run(policy_file: Path) -> None:
    content = make_bundle({"light.so": b"\x7fELF"})
    BundleStore(load_policy(policy_file).bundle_folder).add(content)
    assert primia(["site", "approve", sha256(content), f"site={policy_file}"]) == 2
    assert load_policy(policy_file).approved_bundles == []


def test_a_file_that_is_no_bundle_is_not_approved(policy_file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.fab").write_bytes(b"not a zip")
    with pytest.raises(PolicyRefusal, match="it is no zip file"):
        approve_file(policy_file, tmp_path / "x.fab")
    with pytest.raises(DataError, match="cannot be read"):
        approve_file(policy_file, tmp_path)
    assert load_policy(policy_file).approved_bundles == []


def approve_five(file: Path, first: int) -> None:
    for number in range(first, first + 5):
        approve(file, f"{number:064x}", note=f"number {number}")


def test_approvals_at_once_all_land(policy_file: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=approve_five, args=(policy_file, n)) for n in (0, 5, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = load_policy(policy_file).approved_bundles
    assert sorted(found) == [f"{number:064x}" for number in range(15)]
    assert len(list(SiteLog(load_policy(policy_file).log_file).entries())) == 15


def test_a_linked_policy_is_not_replaced(policy_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "kit" / "site.yaml"
    link.parent.mkdir()
    link.symlink_to(policy_file)
    before = policy_file.read_text()
    with pytest.raises(DataError, match=rf"is a link; .*name it: site={policy_file.resolve()}"):
        approve(link, "ab" * 32)
    assert link.is_symlink()
    assert policy_file.read_text() == before
    assert approve(link.resolve(), "ab" * 32)


def test_a_note_stays_on_its_line(policy_file: Path) -> None:
    assert approve(policy_file, "ab" * 32, note="x\nmin_sites: 1 #")
    policy = load_policy(policy_file)
    assert (policy.approved_bundles, policy.min_sites) == (["ab" * 32], 3)
    assert "# munich's policy" in policy_file.read_text()
