"""What anyone who may start a run at the SuperLink can do to the files and terminals of a site."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from primia_flwr.cli.main import run as primia
from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.bundle.approval import approve
from primia_flwr.site.bundle.contents import BundleStore, sha256
from primia_flwr.site.gate import Gate
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy
from tests.site.bundle_maker import make_bundle

BUNDLE = make_bundle()
POLICY = """\
site: munich
superlink: fl.example.org:9391
approved_bundles: []
allowed_experiments: [pneumonia]
require_secure_aggregation: false
"""
ESCAPES = "\x1b[2J\x1b[H\x1b[32m nothing was refused today \x1b[0m \u202e \x07 \r"


class Site:
    """A site with an approved bundle, its gate, and its commands."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.policy_file = folder / "site.yaml"
        self.policy_file.write_text(POLICY)
        approve(self.policy_file, sha256(BUNDLE))
        self.store = BundleStore(load_policy(self.policy_file).bundle_folder)
        self.log = SiteLog(load_policy(self.policy_file).log_file)
        self._capsys = capsys

    def refusal(self, content: bytes = BUNDLE, *, config: str = "name: x", **facts: str) -> str:
        """Send a message that is refused, and return the sentence."""
        gate: Any = Gate(self.policy_file)
        digest = sha256(content)
        names = {"message_type": "train", "group_id": "1", "app": "tests/light-app"} | facts
        message = SimpleNamespace(
            metadata=SimpleNamespace(**names), has_content=lambda: False, has_error=lambda: False
        )
        run = SimpleNamespace(
            run_id=7,
            fab_hash=digest,
            fab_id=names["app"],
            fab_version="1.0.0",
            primary_task_type=facts.get("task", "flwr-serverapp"),
        )
        context = SimpleNamespace(run_config={"config": config})
        gate.note((message, context, run, SimpleNamespace(hash_str=digest, content=content)))
        with pytest.raises(PolicyRefusal) as caught:
            gate.admit(content)
        return str(caught.value)

    def primia(self, *words: str) -> tuple[int, str]:
        """Run a command and return its exit code and all that it printed."""
        code = primia(["site", *words, f"site={self.policy_file}"])
        printed = self._capsys.readouterr()
        return code, printed.out + printed.err


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def assert_harmless(text: str) -> None:
    assert [c for c in text if not c.isprintable() and c != "\n"] == []


@pytest.mark.parametrize("key", ["group_id", "message_type", "task", "app"])
@pytest.mark.parametrize("value", [ESCAPES, "[/x]", "\\[/x]", "x" * 100_000, "[red]", "é" * 9000])
def test_no_name_of_a_strangers_steers_a_terminal_or_fills_the_log(
    site: Site, key: str, value: str
) -> None:
    before = site.log.file.stat().st_size
    sentence = site.refusal(**{key: value})
    assert len(sentence) <= 300
    assert_harmless(sentence)
    assert site.log.file.stat().st_size - before < 4000
    code, printed = site.primia("log")
    assert code == 0
    assert_harmless(printed)


LAUGHS = (
    "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    + "name: *a8\n"
)


@pytest.mark.parametrize(
    "config",
    [
        LAUGHS,
        "name: " + "[" * 150_000,
        "name: {" + "a: {" * 10_000,
        "name: !!python/object/apply:os.system [x]",
        "name: !" + "x" * 100_000 + " y",
        "name: " + "x" * 100_000,
        "name: '" + "x\\[/x]" * 1000 + "'",
        'name: "' + "\\e[2J" * 1000 + '"',
        "name: [" + "x, " * 40_000 + "x]",
        "name: " + "9" * 5000,
        "name: 0x" + "f" * 5000,
        "? [a, b]\n: 1\nname: x",
        "x" * 100 + ": 1\n" + "x" * 100 + ": 2",
        "name: ${oc.env:HOME}",
        "name: [\x1b[2J",
        "name: x\nfederation: {min_sites: 0x" + "f" * 5000 + "}",
        'name: "\\ud800"',
        "- " * 1000 + "x",
        "name: 2020-13-45",
        "name: !!bool x",
        "name: !!timestamp 2020-13-45",
    ],
    ids=lambda config: config[:24],
)
def test_no_configuration_makes_a_long_refusal_or_a_long_line_in_the_log(
    site: Site, config: str
) -> None:
    before = site.log.file.stat().st_size
    sentence = site.refusal(config=config)
    assert sentence.startswith("site munich refuses: ")
    assert len(sentence) <= 300
    assert_harmless(sentence)
    assert site.log.file.stat().st_size - before < 3000
    assert site.primia("log")[0] == 0


@pytest.mark.parametrize("name", ["[/x]", "[bold]x.py", "\\[/x].py", "x\x1b[2J.py", "\u202ex.py"])
def test_any_name_in_a_bundle_is_refused_or_shown(site: Site, name: str) -> None:
    site.refusal(make_bundle({name: "1"}))
    site.store.add(make_bundle({name: "1"}))  # as an older version would have kept it
    code, printed = site.primia("review")
    assert code == 0
    assert "cannot run here" in printed
    assert_harmless(printed)
    code, printed = site.primia("review", sha256(make_bundle({name: "1"})))
    assert code == 2
    assert_harmless(printed)
    code, printed = site.primia("review", f"file='{name}'", sha256(BUNDLE)[:8])
    assert code == 2
    assert_harmless(printed)


def test_review_shows_whole_hashes_and_takes_beginnings(site: Site) -> None:
    other = make_bundle({"light.py": "app = '[/x]'\n"})
    sentence = site.refusal(other)
    assert f"bundle {sha256(other)} is not approved here" in sentence
    site.store.add(BUNDLE, approved=[sha256(BUNDLE)])
    code, printed = site.primia("review")
    assert code == 0
    assert f"{sha256(other)}  not approved  tests/light-app 1.0.0, 2 files" in printed
    assert f"{sha256(BUNDLE)}  approved" in printed
    assert site.primia("review", sha256(other)[:8])[0] == 0
    code, printed = site.primia("review", sha256(other)[:8], "file=light.py")
    assert code == 0
    assert "app = '[/x]'" in printed


def test_junk_before_and_after_does_not_crowd_out_the_release(site: Site) -> None:
    release = make_bundle({"light.py": "app = 'new'\n"})
    for number in range(60):
        site.refusal(make_bundle({"a.py": str(number)}))
    site.refusal(release)
    assert sha256(release) in site.store.hashes()
    code, printed = site.primia("expect", sha256(release))
    assert code == 0
    assert json.loads(printed.splitlines()[-1]) == {"bundle": sha256(release), "here": True}
    for number in range(100, 160):
        site.refusal(make_bundle({"a.py": str(number)}))
    assert len(site.store.hashes()) == 51
    assert site.store.read(sha256(release)) == release


def test_a_release_that_is_expected_has_a_place_when_it_comes(site: Site) -> None:
    release = make_bundle({"light.py": "app = 'new'\n"})
    assert site.primia("expect", sha256(release))[0] == 0
    assert f"{sha256(release)}  expected, has not come" in site.primia("review")[1]
    assert site.primia("expect", sha256(release)[:12])[0] == 2
    site.refusal(release)
    for number in range(51):
        site.refusal(make_bundle({"a.py": str(number)}))
    assert sha256(release) in site.store.hashes()
    assert load_policy(site.policy_file).approved_bundles == [sha256(BUNDLE)]


def test_junk_that_cannot_be_read_takes_no_place(site: Site) -> None:
    for content in (b"not a zip", make_bundle({"a.so": "1"}), make_bundle(project="x = 1")):
        assert "is not approved here" in site.refusal(content)
    assert site.store.hashes() == []
