"""The gate against a stand-in of Flower's ClientApp process with the same steps."""

import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

sys.path.insert(0, str(Path(__file__).parent))
from bundle_maker import make_bundle

from primia_flwr.errors import FederationError, PolicyRefusal
from primia_flwr.site import installed
from primia_flwr.site.approval import approve
from primia_flwr.site.bundles import BundleStore, inspect, sha256
from primia_flwr.site.executor import GateExecutor, use_gate
from primia_flwr.site.gate import Gate, check_flower, close
from primia_flwr.site.policy import load_policy
from primia_flwr.site.site_log import SiteLog

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


def message(error: str = "") -> Any:
    return Stub(
        {
            "metadata": Stub({"message_type": "train", "group_id": "1"}),
            "has_content": lambda: False,
            "has_error": lambda: bool(error),
            "error": Stub({"reason": error}),
        }
    )


RUN_CLIENTAPP = """
def run_clientapp():
    pulled = pull_task_input()
    message, context, run, fab = pulled
    try:
        install_from_fab(fab.content)
        load = get_load_client_app_fn()
        load("id", "version", "hash")
        reply = answer("")
    except Exception as error:
        reply = answer(f"{type(error)}:<'{error}'>")
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
        message(),
        context,
        run,
        Stub({"content": BUNDLE, "hash_str": HASH}),
    )
    module.install_from_fab = lambda content: steps.append("install")
    module.get_load_client_app_fn = lambda: lambda *names: steps.append("load")
    module.push_message = lambda client, reply, context: steps.append(
        f"push {reply.error.reason}".strip()
    )
    module.answer = message
    exec(compile(source, "stand_in", "exec"), module.__dict__)
    return module


@pytest.fixture
def policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLWR_HOME", "nowhere")
    monkeypatch.setattr(installed, "forget_own_modules", lambda: None)
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
    assert step.startswith("push <class 'primia_flwr.errors.PolicyRefusal'>:<'site munich refuses")
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


def test_log_that_cannot_be_written_lets_nothing_run(policy_file: Path) -> None:
    approve(policy_file, HASH)
    log = load_policy(policy_file).log_file
    log.write_text(log.read_text()[:-5])
    steps: list[str] = []
    module = flower(steps)
    close(Gate(policy_file), module)
    with pytest.raises(Exception, match="newest entry"):
        module.run_clientapp()
    assert steps == []


def test_load_without_admission_is_refused(policy_file: Path) -> None:
    gate = Gate(policy_file)
    with pytest.raises(PolicyRefusal, match="has not admitted"):
        gate.check_admitted()
    with pytest.raises(PolicyRefusal, match="without a message"):
        gate.admit(BUNDLE)
    with pytest.raises(PolicyRefusal, match="knows nothing of"):
        gate.leaving(message())


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


def test_unpacked_folder_that_differs_is_removed(tmp_path: Path, policy_file: Path) -> None:
    bundle = inspect(BUNDLE)
    app = installed.prepare(tmp_path, bundle, BUNDLE) / "apps" / "tests.light-app.1.0.0.x"
    for change in ("none", "edit", "extra", "missing"):
        app.mkdir(parents=True)
        (app / "light.py").write_text("app = 1\n")
        (app / "pyproject.toml").write_text(
            make_file("pyproject.toml"),
        )
        (app / "__pycache__").mkdir()
        (app / "__pycache__" / "light.pyc").write_bytes(b"x")
        if change == "edit":
            (app / "light.py").write_text("app = 2\n")
        elif change == "extra":
            (app / "sitecustomize.py").write_text("evil\n")
        elif change == "missing":
            (app / "light.py").unlink()
        installed.prepare(tmp_path, bundle, BUNDLE)
        assert app.exists() == (change == "none"), change
        if app.exists():
            import shutil

            shutil.rmtree(app)


def make_file(name: str) -> str:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as archive:
        return archive.read(name).decode()


def test_a_failure_keeps_its_details_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    arrived = Message(RecordDict(), 7, "train")
    text = "<class 'primia_flwr.errors.DataError'>:<'mueller_anna.dcm: cut off'>"
    failed = Message(Error(code=1, reason=text), reply_to=arrived)
    gate = Gate(tmp_path / "site.yaml")
    gate.note((arrived, Stub(), Stub(), Stub()))  # type: ignore[arg-type]
    assert gate.without_details(failed) is failed  # a refusal, before anything was admitted
    gate._admitted, gate._log = True, SiteLog(tmp_path / "log.jsonl")
    sent = gate.without_details(failed)
    assert sent.error.reason == (
        "<class 'primia_flwr.errors.DataError'>:<'the reason is in the site's own log'>"
    )
    assert sent.error.code == 1
    (entry,) = gate._log.entries()
    assert (entry.event, entry.details["reason"]) == ("failed", text)
    good = Message(RecordDict(), reply_to=arrived)
    assert gate.without_details(good) is good
