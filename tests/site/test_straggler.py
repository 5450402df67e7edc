import multiprocessing
import threading
import time
from types import ModuleType, SimpleNamespace

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.run import RunNotRunningException

from primia_flwr.processes.children import wait_until
from primia_flwr.site import executor, straggler
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy


@pytest.fixture
def site_file(tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text("site: munich\nsuperlink: 127.0.0.1:9\n")
    (tmp_path / "state").mkdir()
    return file


class Node:
    """Flower's SuperNode as far as it is wrapped: one message, and whoever answers it."""

    def __init__(self, site_file, get_run):
        self.site_file, self.get_run = site_file, get_run
        self.replies = []
        self.answered = threading.Event()
        self.module = ModuleType("node")
        self.module._pull_and_store_message = lambda *, receive, **_: receive()[0].metadata.run_id
        self.module._push_messages = lambda **_: self.answered.wait(20)
        self.module._insert_message = self.insert
        assert straggler.give_up_over(self.module)

    def insert(self, reply, state, store):
        self.replies.append((reply, state, store))
        self.answered.set()

    def one_message(self, ttl=1000.0):
        message = Message(RecordDict(), 4, "train", group_id="1", ttl=ttl)
        message.metadata.__dict__.update(_run_id=77, _message_id="m1")
        self.module._pull_and_store_message(
            receive=lambda: (message, None),
            get_run=self.get_run,
            node_config={"site-file": str(self.site_file)},
        )
        self.module._push_messages(state="state", object_store="store", send=None)


@pytest.fixture(autouse=True)
def _in_a_run(monkeypatch):
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(straggler, "_ASK_EVERY", 0.05)


def test_work_of_a_run_that_is_over_is_given_up(site_file):
    asked = []

    def get_run(run_id):
        asked.append(run_id)
        if len(asked) == 2:
            raise OSError("the SuperLink is away")
        if len(asked) > 3:
            raise RunNotRunningException

    node = Node(site_file, get_run)
    node.one_message()
    ((reply, state, store),) = node.replies
    assert (asked[:4], state, store) == ([77, 77, 77, 77], "state", "store")
    assert reply.error.reason.startswith("the site could not answer")
    policy = load_policy(site_file)
    assert (policy.state_folder / straggler.MARK).read_text() == "77\n"
    (entry,) = SiteLog(policy.log_file).entries()
    assert entry.event == "given-up"
    assert entry.details == {"run": "77", "message": "train", "reason": "its run is over"}


def test_work_past_its_time_is_given_up(site_file):
    node = Node(site_file, lambda run_id: SimpleNamespace())
    node.one_message(ttl=0.1)
    assert len(node.replies) == 1
    (entry,) = SiteLog(load_policy(site_file).log_file).entries()
    assert entry.details["reason"] == "its time is over, nobody takes the answer"


def test_work_that_is_wanted_goes_on(site_file):
    node = Node(site_file, lambda run_id: SimpleNamespace())
    threading.Timer(0.4, node.answered.set).start()
    node.one_message()
    time.sleep(0.2)
    assert node.replies == []
    assert not (site_file.parent / "state" / straggler.MARK).exists()


def test_another_flower_keeps_its_own_way():
    assert straggler.give_up_over(ModuleType("other")) is False


def test_the_executor_ends_what_was_begun_before_and_nothing_else(site_file, monkeypatch):
    monkeypatch.setattr(executor.forkserver, "ensure_running", lambda: None)
    monkeypatch.setattr(executor, "_PATIENCE", 0.2)
    gates = executor.GateExecutor(site_file)
    context = multiprocessing.get_context("fork")
    old, new = (context.Process(target=time.sleep, args=(60,), daemon=True) for _ in range(2))
    for process in (old, new):
        process.start()
    mark = load_policy(site_file).state_folder / straggler.MARK
    mark.write_text("77\n")
    now = mark.stat().st_mtime
    gates._running = {old: now - 5.0, new: now + 5.0}  # type: ignore[dict-item]
    gates.reconcile()
    wait_until(lambda: old.exitcode is not None, what="the gate ended", timeout=10)
    assert new.exitcode is None
    assert not mark.exists()
    gates.reconcile()
    assert list(gates._running) == [new]
    new.kill()
    new.join()
