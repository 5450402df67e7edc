"""Bundles at the SuperNode, through Flower's own functions that pull a message and push a reply."""

import types
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory

from primia_flwr.errors import FederationError
from primia_flwr.site import supernode
from primia_flwr.site.bundle import first_look
from primia_flwr.site.bundle.contents import sha256
from primia_flwr.site.bundle.first_look import check_supernode, look_first, node_runtime
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy
from tests.site.bundle_maker import PROJECT, make_bundle, make_installable

HONEST = make_installable({"light.py": "app = 1\n"})
BLANKS = make_bundle(project="#" + " " * (65 * 2**20))


class Node:
    """A SuperNode's state, and Flower's own two steps on it."""

    def __init__(self, policy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("_run_id", "_node_id", "_task_id"):
            monkeypatch.setattr(TaskIdentity, name, 1)
        for name in ("_pull_and_store_message", "get_fused_config_from_fab"):
            monkeypatch.setattr(node_runtime, name, getattr(node_runtime, name))
        look_first()
        factory = ObjectStoreFactory()
        self.state, self.store = NodeStateFactory(factory).state(), factory.store()
        self.state.set_node_id(1)
        self.policy_file = policy_file
        self.sent: list[str] = []

    def pull(self, fab: bytes, *, override: dict[str, Any] | None = None) -> int | None:
        message = Message(RecordDict(), dst_node_id=1, message_type="train", group_id="3")
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = {k: v.deflate() for k, v in get_all_nested_objects(message).items()}
        run: Any = types.SimpleNamespace(
            run_id=1,
            fab_hash=sha256(fab),
            override_config=override or {},
            series_id=1,
            primary_task_type="flwr-serverapp",
        )
        result: int | None = node_runtime._pull_and_store_message(
            state=self.state,
            object_store=self.store,
            node_config={"site": "munich", "site-file": str(self.policy_file)},
            receive=lambda: (message, get_object_tree(message)),
            get_run=lambda run_id: run,
            get_fab=lambda digest, run_id: Fab(digest, fab, {}),
            pull_object=lambda run_id, object_id: objects[object_id],
            confirm_message_received=lambda run_id, message_id: None,
            trusted_entities=None,
        )
        return result

    def push(self) -> list[str]:
        """Send the waiting replies as Flower's loop does; return the reasons of their errors."""

        def send(message: Message, tree: Any, seconds: float) -> tuple[set[str], str]:
            self.sent.append(message.error.reason)
            return set(), ""

        node_runtime._push_messages(
            state=self.state, object_store=self.store, send=send, push_object=lambda *_: None
        )
        return self.sent

    def logged(self) -> list[dict[str, Any]]:
        entries = SiteLog(load_policy(self.policy_file).log_file).entries()
        return [entry.details | {"event": entry.event} for entry in entries]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    (tmp_path / "site.yaml").write_text("site: munich\nsuperlink: fl.example.org:9391\n")
    return Node(tmp_path / "site.yaml", monkeypatch)


def test_an_honest_bundle_is_pulled_as_before(node: Node) -> None:
    assert node.pull(HONEST, override={"config": "name: x"}) == 1
    assert node.state.get_run(1) is not None
    assert node.state.get_fab(sha256(HONEST)).content == HONEST
    assert node.state.get_run_series_context(1).run_config == {"config": "name: x"}
    assert node.logged() == []


HUGE = PROJECT + "[tool.flwr.app.config." + "k" * 20_000 + "]\n"
HUGE += "".join(f"{i:x} = 1\n" for i in range(20_000))


@pytest.mark.parametrize(
    ("fab", "override", "words"),
    [
        (b"not a zip", {}, "it is no zip file"),
        (b"", {}, "it is no zip file"),
        (BLANKS, {}, "bundle unpacks to more than 67108864 bytes"),
        (make_bundle(project="#" + " " * 2**20), {}, "or one of more than 262144 bytes"),
        (make_installable({}).replace(b"[project]", b"[project["), {}, "damaged"),
        (make_bundle(project="["), {}, "cannot be read; expected TOML"),
        (make_bundle(project="[project]\nname = 'x'\nversion = '1'\n"), {}, "publisher=''"),
        (make_bundle(project=HUGE), {}, "too many entries, levels or too long keys"),
        (make_bundle({"../../x.py": "1"}), {}, "expected plain files"),
        (HONEST, {"no-such-key": 1}, "the run's configuration do not fit"),
        (HONEST + b"\0", {}, "cannot be read"),
    ],
    ids=lambda value: None if isinstance(value, bytes | dict) else str(value)[:30],
)
def test_a_bad_bundle_is_answered_with_a_refusal_and_the_loop_goes_on(
    node: Node, fab: bytes, override: dict[str, Any], words: str
) -> None:
    assert node.pull(fab, override=override) == 1
    assert node.state.get_run(1) is None
    (reason,) = node.push()
    assert reason.startswith("<class 'primia_flwr.errors.PolicyRefusal'>:<'site munich refuses: ")
    assert words in reason
    assert len(reason) < 400
    (entry,) = node.logged()
    assert (entry["event"], entry["run"], entry["round"]) == ("refused", "1", "3")
    assert entry["bundle"] == sha256(fab)
    assert words in entry["reason"]
    assert node.pull(HONEST) == 1
    assert node.state.get_run(1) is not None


def test_flower_itself_reads_nothing_of_a_bad_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    monkeypatch.setattr(node_runtime, "get_fused_config_from_fab", lambda fab, _: read.append(1))
    (tmp_path / "site.yaml").write_text("site: munich\nsuperlink: fl.example.org:9391\n")
    node = Node(tmp_path / "site.yaml", monkeypatch)
    node.pull(BLANKS)
    node.pull(b"not a zip")
    assert read == []


def test_a_bundle_that_is_too_large_is_not_looked_into(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("primia_flwr.site.bundle.archive.MAX_BUNDLE_BYTES", 100)
    monkeypatch.setattr(first_look, "inspect", lambda _: pytest.fail("looked into"))
    assert node.pull(HONEST) == 1
    assert f"bundle of {len(HONEST)} bytes; expected at most 100" in node.push()[0]


def test_without_a_record_there_is_no_answer(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.policy_file.write_text("site: [\n")
    assert node.pull(b"not a zip") is None
    assert node.state.get_messages_legacy(is_reply=True) == []
    assert "not answered" in capsys.readouterr().out


def test_no_message_is_no_message(node: Node) -> None:
    nothing: Any = None
    result = node_runtime._pull_and_store_message(
        state=node.state,
        object_store=node.store,
        node_config={},
        receive=lambda: None,
        get_run=nothing,
        get_fab=nothing,
        pull_object=nothing,
        confirm_message_received=nothing,
        trusted_entities=None,
    )
    assert result is None


FLOWER = """
def start_client_internal():
    _pull_and_store_message()
def _insert_message(message, state, store): ...
def get_fused_config_from_fab(fab, run): ...
def _pull_and_store_message(state, object_store, node_config, receive, get_run, get_fab):
    get_fused_config_from_fab(None, None)
    _insert_message(None, None, None)
"""


def made(source: str) -> types.ModuleType:
    module = types.ModuleType("stand_in")
    exec(compile(source, "stand_in", "exec"), module.__dict__)
    return module


def test_the_installed_flower_has_the_place_for_the_first_look() -> None:
    check_supernode()
    check_supernode(made(FLOWER))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    _pull_and_store_message()", "    other()"),
        ("    get_fused_config_from_fab(None, None)", "    other()"),
        ("    _insert_message(None, None, None)", "    other()"),
        ("def _insert_message(message, state, store): ...", ""),
        ("def get_fused_config_from_fab(fab, run): ...", "get_fused_config_from_fab = 3"),
        ("receive, get_run, get_fab)", "receive, get_run)"),
        ("def _pull_and_store_message(", "def _pull("),
    ],
)
def test_a_flower_that_reads_bundles_elsewhere_is_refused(old: str, new: str) -> None:
    with pytest.raises(FederationError, match="reads bundles elsewhere"):
        look_first(made(FLOWER.replace(old, new)))


def test_the_supernode_does_not_start_without_the_first_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supernode, "node_runtime", made("def start_client_internal(): ..."))
    monkeypatch.setattr(supernode, "flower_supernode", lambda: pytest.fail("started"))
    with pytest.raises(SystemExit, match="reads bundles elsewhere"):
        supernode.main()
