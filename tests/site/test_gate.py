"""The gate against a stand-in of Flower's ClientApp process with the same steps."""

import contextlib
import os
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from primia_flwr.errors import FAILED_AT_SITE, FederationError, PolicyRefusal
from primia_flwr.site.bundle import installed, own_app
from primia_flwr.site.bundle.approval import approve
from primia_flwr.site.bundle.contents import BundleStore, read_files, sha256
from primia_flwr.site.executor import GateExecutor, use_gate
from primia_flwr.site.gate import FAILED_CODE, Gate, check_flower, close
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy
from tests.faults.full_disk import full_disk
from tests.site.bundle_maker import make_bundle

BUNDLE = make_bundle()
HASH = sha256(BUNDLE)
POLICY = """\
site: munich
superlink: fl.example.org:9391
approved_bundles: []
allowed_experiments: [trial]
min_sites: 2
require_secure_aggregation: false
"""


@dataclass
class Stub:
    """Any object with the given attributes."""

    values: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.values[name]


def arrived() -> Message:
    return Message(RecordDict(), dst_node_id=7, message_type="train", group_id="1")


def reply_of(message: Message, error: str) -> Message:
    """Return what Flower's ClientApp process makes of an answer or an exception."""
    if error:
        return Message(Error(code=1, reason=error), reply_to=message)
    return Message(RecordDict(), reply_to=message)


RUN_CLIENTAPP = """
def run_clientapp():
    pulled = pull_task_input()
    message, context, run, fab = pulled
    try:
        install_from_fab(fab.content)
        load = get_load_client_app_fn()
        load("id", "version", "hash")
        reply = answer(message)
    except Exception as error:
        reply = reply_of(message, str(type(error)) + ":<'" + str(error) + "'>")
    push_message(None, reply, context)
"""


def flower(steps: list[str], *, source: str = RUN_CLIENTAPP, config: str | None = None) -> Any:
    """Return a module with the steps of Flower 1.41; each step leaves its name in `steps`."""
    text = "name: trial\nfederation: {min_sites: 2}" if config is None else config
    run = Stub(
        {
            "run_id": 7,
            "fab_hash": HASH,
            "fab_id": "tests/light-app",
            "fab_version": "1.0.0",
            "primary_task_type": "flwr-serverapp",
        }
    )
    context = Stub({"run_config": {"config": text}})
    module: Any = types.ModuleType("stand_in")
    module.pull_task_input = lambda: (
        arrived(),
        context,
        run,
        Stub({"content": BUNDLE, "hash_str": HASH}),
    )
    module.install_from_fab = lambda content: (unpack(content), steps.append("install"))
    module.get_load_client_app_fn = lambda: lambda *names: steps.append("load")
    module.push_message = lambda client, reply, context: steps.append(
        f"push {reply.error.code} {reply.error.reason}" if reply.has_error() else "push"
    )
    module.answer = lambda message: reply_of(message, "")
    module.reply_of = reply_of
    exec(compile(source, "stand_in", "exec"), module.__dict__)
    return module


def unpack(content: bytes) -> None:
    """Unpack a bundle as Flower does."""
    app = Path(os.environ["FLWR_HOME"]) / "apps" / f"tests.light-app.1.0.0.{sha256(content)[:8]}"
    for name, raw in read_files(content).items():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_bytes(raw)


@pytest.fixture
def policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setenv("FLWR_HOME", "nowhere")
    monkeypatch.setattr(own_app, "forget", lambda: None)
    file = tmp_path / "site.yaml"
    file.write_text(POLICY)
    return file


def events(policy_file: Path) -> list[str]:
    return [entry.event for entry in SiteLog(load_policy(policy_file).log_file).entries()]


def test_unknown_bundle_is_kept_refused_and_never_installed(policy_file: Path) -> None:
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    module.run_clientapp()
    (step,) = steps
    assert step.startswith(
        "push 1 <class 'primia_flwr.errors.PolicyRefusal'>:<'site munich refuses"
    )
    assert f"bundle {HASH} is not approved here" in step
    assert events(policy_file) == ["request", "stored", "refused", "left"]
    assert BundleStore(load_policy(policy_file).bundle_folder).hashes() == [HASH]


def test_approved_bundle_passes_and_its_reply_is_logged_first(policy_file: Path) -> None:
    approve(policy_file, HASH)
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    module.run_clientapp()
    assert steps == ["install", "load", "push"]
    assert events(policy_file) == ["approved", "request", "accepted", "left"]
    assert os.environ["FLWR_HOME"].endswith(f"state/bundles/unpacked/{HASH}")


def test_a_second_message_finds_the_bundle_unpacked(policy_file: Path) -> None:
    approve(policy_file, HASH)
    for expected in (["install", "load", "push"], ["load", "push"]):
        steps: list[str] = []
        module = flower(steps)
        close(Gate(policy_file), module)
        module.run_clientapp()
        assert steps == expected


def test_what_was_changed_since_is_unpacked_again(policy_file: Path) -> None:
    approve(policy_file, HASH)
    for _ in range(2):
        steps: list[str] = []
        module = flower(steps)
        close(Gate(policy_file), module)
        module.run_clientapp()
        assert steps == ["install", "load", "push"]
        (app,) = (Path(os.environ["FLWR_HOME"]) / "apps").iterdir()
        (app / "more.py").write_text("")


def test_removing_the_line_takes_the_approval_back(policy_file: Path) -> None:
    approve(policy_file, HASH)
    policy_file.write_text(POLICY)
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    module.run_clientapp()
    assert "install" not in steps


def test_policy_that_cannot_be_read_refuses_without_telling_details(policy_file: Path) -> None:
    policy_file.write_text("site: munich\nsecret_word: 1\n")
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    module.run_clientapp()
    (step,) = steps
    assert "the site's policy cannot be read, so nothing is allowed" in step
    assert "secret_word" not in step


def test_log_that_cannot_be_written_lets_nothing_run(
    policy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve(policy_file, HASH)
    log = load_policy(policy_file).log_file
    cut = log.read_text()[:-5]
    log.write_text(cut)
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    module.run_clientapp()
    assert steps == [FAILED]
    assert log.read_text() == cut
    assert "the newest entry does not follow" in capsys.readouterr().out


def test_load_without_admission_is_refused(policy_file: Path) -> None:
    gate = Gate(policy_file)
    with pytest.raises(PolicyRefusal, match="has not admitted"):
        gate.check_admitted()
    with pytest.raises(PolicyRefusal, match="without a message"):
        gate.admit(BUNDLE)
    with pytest.raises(PolicyRefusal, match="knows nothing of"):
        gate.leaving(reply_of(arrived(), ""))


def test_installed_flower_has_the_place_for_the_gate() -> None:
    check_flower()


@pytest.mark.parametrize("version", ["1.40.9", "1.43.0", "2.0.0", "unknown"])
def test_versions_that_were_not_tried_are_refused(version: str) -> None:
    with pytest.raises(FederationError, match=rf"flwr {version}; expected flwr 1\.41 or 1\.42"):
        check_flower(version=version)


@pytest.mark.parametrize(
    "source",
    [
        RUN_CLIENTAPP.replace("install_from_fab(fab.content)", "other_install(fab.content)"),
        RUN_CLIENTAPP.replace("load = get_load_client_app_fn()", "load = other()"),
        RUN_CLIENTAPP.replace("push_message(None, reply, context)", "pass"),
        "get_load = get_load_client_app_fn\ndef run_clientapp():\n    get_load_client_app_fn()\n"
        "    pull_task_input()\n    install_from_fab()\n    push_message()\n",
        "run_clientapp = None",
    ],
)
def test_flower_with_other_steps_keeps_the_gate_shut(policy_file: Path, source: str) -> None:
    with pytest.raises(FederationError, match="where the site's gate stands"):
        close(Gate(policy_file), flower([], source=source))


def test_executor_starts_only_gated_tasks(policy_file: Path) -> None:
    executor = GateExecutor(policy_file)
    types_, hashes = executor.get_eligible_capacity({"flwr-clientapp", "flwr-model"})  # type: ignore[arg-type]
    assert (types_, hashes) == ({"flwr-clientapp"}, set())
    spec: Any = Stub({"task_type": "flwr-serverapp"})
    assert executor.launch(spec).status == "failed"


def test_superexec_without_the_seam_is_refused(policy_file: Path) -> None:
    module: Any = types.ModuleType("superexec")
    exec("def run_superexec():\n    other()\n", module.__dict__)
    module.get_executor = None
    with pytest.raises(FederationError, match="get_executor"):
        use_gate(policy_file, module)


FAILED = f"push {FAILED_CODE} {FAILED_AT_SITE}"


def failed_reasons(policy_file: Path) -> list[str]:
    entries = SiteLog(load_policy(policy_file).log_file).entries()
    return [entry.details["reason"] for entry in entries if entry.event == "failed"]


def test_what_was_unpacked_is_looked_at_before_it_is_loaded(policy_file: Path) -> None:
    approve(policy_file, HASH)
    steps: list[str] = []
    module = flower(steps)
    install = module.install_from_fab

    def install_and_change(content: bytes) -> None:
        install(content)
        (app,) = (Path(os.environ["FLWR_HOME"]) / "apps").iterdir()
        (app / "more.py").write_text("evil\n")

    module.install_from_fab = install_and_change
    close(Gate(policy_file), module)
    module.run_clientapp()
    assert steps == ["install", FAILED]
    (reason,) = failed_reasons(policy_file)
    assert "not the bundle that was admitted" in reason


class DivergenceError(Exception):
    """Stands for any kind of exception of the bundle."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mueller_anna.dcm: cut off"),
        DivergenceError("17 of 60"),
        PolicyRefusal("site munich refuses: patient 17 has no epsilon left"),
        KeyError("x"),
        RuntimeError(""),
    ],
)
def test_after_admission_every_failure_looks_the_same(policy_file: Path, error: Exception) -> None:
    approve(policy_file, HASH)
    steps: list[str] = []
    module = flower(steps)

    def answer(message: Message) -> Message:
        raise error

    module.answer = answer
    close(Gate(policy_file), module)
    module.run_clientapp()
    assert FAILED_AT_SITE == "the site could not answer; the reason is in the site's own log"
    assert steps == ["install", "load", "push 2 " + FAILED_AT_SITE]
    assert failed_reasons(policy_file) == [f"{type(error)}:<'{error}'>"]


def test_an_error_that_the_app_makes_itself_looks_the_same(policy_file: Path) -> None:
    approve(policy_file, HASH)
    steps: list[str] = []
    module = flower(steps)
    module.answer = lambda message: Message(Error(code=77, reason="17"), reply_to=message)
    close(Gate(policy_file), module)
    module.run_clientapp()
    assert steps[-1] == "push 2 " + FAILED_AT_SITE


def test_a_failure_of_the_gate_itself_tells_no_path(
    policy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(policy_file, HASH)

    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device", "/data/chest/mueller_anna")

    monkeypatch.setattr(installed, "prepare", full)
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    module.run_clientapp()
    assert steps == [FAILED]
    assert "mueller_anna" in failed_reasons(policy_file)[0]


def test_a_disk_that_is_full_when_a_message_comes_lets_the_failure_leave(policy_file: Path) -> None:
    approve(policy_file, HASH)
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    with full_disk(10):
        module.run_clientapp()
    assert steps == [FAILED]


def test_a_disk_that_fills_up_lets_the_failure_leave(
    policy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve(policy_file, HASH)
    steps: list[str] = []
    module = flower(steps)
    with contextlib.ExitStack() as stack:

        def answer(message: Message) -> Message:
            stack.enter_context(full_disk(10))
            raise ValueError("mueller_anna.dcm: cut off")

        module.answer = answer
        close(Gate(policy_file), module)
        module.run_clientapp()
    assert steps == ["install", "load", FAILED]
    assert (
        "mueller_anna.dcm: cut off'>; not logged: [Errno 27] File too l" in capsys.readouterr().out
    )


def test_a_reply_of_numbers_that_cannot_be_logged_stays(policy_file: Path) -> None:
    approve(policy_file, HASH)
    gate, message = Gate(policy_file), arrived()
    gate._log, gate._admitted = SiteLog(load_policy(policy_file).log_file), True
    with full_disk(10), pytest.raises(OSError, match="File too large"):
        gate.leaving(reply_of(message, ""))


def test_a_failure_before_the_gate_could_judge_tells_nothing(
    policy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("primia_flwr.site.gate.judge", lambda *_: {}["/data/chest"])
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    module.run_clientapp()
    assert steps == [FAILED]


def test_a_reply_without_an_error_is_left_alone(policy_file: Path) -> None:
    gate = Gate(policy_file)
    message = arrived()
    gate.note((message, Stub(), Stub(), Stub()))  # type: ignore[arg-type]
    good = reply_of(message, "")
    assert gate.without_details(good) is good


def test_a_refusal_before_admission_keeps_its_short_sentence(policy_file: Path) -> None:
    approve(policy_file, HASH)
    steps: list[str] = []
    module = flower(steps, config="name: '" + "x" * 5000 + "\\[/x]'\nfederation: {min_sites: 2}")
    close(Gate(policy_file), module)
    module.run_clientapp()
    (step,) = steps
    assert step.startswith(
        "push 1 <class 'primia_flwr.errors.PolicyRefusal'>:<'site munich refuses: experiment 'xxxx"
    )
    assert step.endswith("allowed here: trial'>")
    assert len(step) < 350
