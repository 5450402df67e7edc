"""Give up work whose run is over, or whose answer nobody takes any more.

A SuperNode answers one message after the other, however long each takes. So a slow site went on
computing for a run that had ended, for hours, and the next run waited for it. Here the SuperNode
asks now and then whether the run still goes on. If not, it answers in the place of the app, and
the executor ends the process.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.supercore.run import RunNotRunningException

from primia_flwr.errors import FAILED_AT_SITE, PrimiaError
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy
from primia_flwr.storage.atomic import write_atomic
from primia_flwr.storage.printable import printable

MARK = "given-up"  # in the state folder: what was started before it is to end
_ASK_EVERY = 15.0  # seconds between two questions whether a run still goes on
_PULL, _PUSH, _ANSWER = "_pull_and_store_message", "_push_messages", "_insert_message"
_OVER, _LATE = "its run is over", "its time is over, nobody takes the answer"


def give_up_over(module: ModuleType) -> bool:
    """Let Flower's SuperNode give up work that is for nothing; return whether it can be told so."""
    if not all(callable(getattr(module, name, None)) for name in (_PULL, _PUSH, _ANSWER)):
        return False
    pull, push = getattr(module, _PULL), getattr(module, _PUSH)
    current: list[_Work] = []

    def noted_pull(
        *, receive: Callable[[], Any], get_run: Callable[[int], Any], **rest: Any
    ) -> Any:
        def noted() -> Any:
            received = receive()
            if received is not None:
                current[:] = [_Work(received[0], get_run, rest.get("node_config") or {})]
            return received

        return pull(receive=noted, get_run=get_run, **rest)

    def watched_push(*, state: Any, object_store: Any, **rest: Any) -> Any:
        done = threading.Event()

        def watch() -> None:
            if reason := work.ends(done):
                work.note(reason)
                getattr(module, _ANSWER)(work.reply(), state, object_store)

        if current:
            work = current.pop()
            threading.Thread(target=watch, daemon=True).start()
        try:
            return push(state=state, object_store=object_store, **rest)
        finally:
            done.set()

    setattr(module, _PULL, noted_pull)
    setattr(module, _PUSH, watched_push)
    return True


class _Work:
    """One message that is being answered."""

    def __init__(
        self, message: Message, get_run: Callable[[int], Any], node_config: dict[str, Any]
    ) -> None:
        self._message = message
        self._get_run = get_run
        self._site_file = Path(str(node_config.get("site-file", "")))
        self._until = time.monotonic() + message.metadata.ttl

    def ends(self, done: threading.Event) -> str:
        """Wait until the work is done, or return why it is for nothing."""
        while not done.wait(_ASK_EVERY):
            if time.monotonic() > self._until:
                return _LATE
            try:
                self._get_run(self._message.metadata.run_id)
            except RunNotRunningException:
                return "" if done.is_set() else _OVER
            except Exception as error:  # the SuperLink is away: it may come back
                print(f"[straggler] {printable(str(error), limit=300)}", flush=True)
        return ""

    def note(self, reason: str) -> None:
        """Write it into the site's log, and tell the executor to end what it has started."""
        metadata = self._message.metadata
        facts = {"run": str(metadata.run_id), "message": metadata.message_type}
        print(f"[straggler] gave up a {metadata.message_type} message: {reason}", flush=True)
        with contextlib.suppress(PrimiaError, OSError):
            policy = load_policy(self._site_file)
            write_atomic(policy.state_folder / MARK, f"{metadata.run_id}\n")
            SiteLog(policy.log_file).append("given-up", **facts, reason=reason)

    def reply(self) -> Message:
        """Return what answers in the place of the app; as of any failure, no reason leaves."""
        error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, FAILED_AT_SITE)
        metadata = self._message.metadata
        metadata.ttl = time.time() - metadata.created_at + _ASK_EVERY  # else it is late already
        return Message(error, reply_to=self._message)
