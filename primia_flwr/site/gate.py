"""The gate: Flower's ClientApp process, with the hospital's judgement before the bundle.

`answer()` is what the site's executor runs for every message, in a process of its own, in place
of `flwr-clientapp`. It runs Flower's own `run_clientapp`, in which four steps are wrapped (see
docs/adr/0003):

- the message, run and bundle are noted as they are pulled,
- before the bundle is installed the policy judges; a refusal is raised there, so that Flower
  sends it back to the coordinator as the reason of the failed message,
- before the code is loaded what was unpacked is compared with the bundle,
- before a reply is sent it is written to the site log, and a failure becomes the one constant.

If this Flower does not have these steps, the gate does not open: nothing runs.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.app import Context, Error, Message
from flwr.common.constant import ErrorCode
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supernode.cli import flwr_clientapp

from primia_flwr.errors import (
    FAILED_AT_SITE,
    DataError,
    FederationError,
    PolicyRefusal,
    PrimiaError,
)
from primia_flwr.processes.children import BUNDLE_VARIABLE
from primia_flwr.processes.pace import hasten_transfers
from primia_flwr.site.authorisation import Request, UnknownBundle, judge
from primia_flwr.site.bundle import installed, own_app
from primia_flwr.site.bundle.contents import BundleStore, inspect, sha256
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import SitePolicy, load_policy
from primia_flwr.storage.printable import printable, short

# All that leaves of a failure, whatever it was: this code and `FAILED_AT_SITE`.
FAILED_CODE = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
_LONGEST_NAME = 100
_FLOWER_VERSIONS = ((1, 41), (1, 42))
# The steps of Flower's run_clientapp that the gate wraps, in the order in which they come.
_STEPS = ("pull_task_input", "install_from_fab", "get_load_client_app_fn", "push_message")

# By name: packages of Flower export functions that are called like their modules.
_clientapp_runtime = importlib.import_module("flwr.supernode.runtime.run_clientapp")

_Pulled = tuple[Message, Context, Run, Fab]


class Gate:
    """Judges one message and lets its bundle pass, or not."""

    def __init__(self, policy_file: Path) -> None:
        self._policy_file = policy_file
        self._pulled: _Pulled | None = None
        self._admitted = False
        self._refusal = ""
        self._home: Path | None = None
        self._log: SiteLog | None = None

    def note(self, pulled: _Pulled) -> _Pulled:
        """Remember what arrived."""
        self._pulled = pulled
        return pulled

    def admit(self, content: bytes) -> None:
        """Judge the arrived message; return only if its bundle may be installed.

        Raises
        ------
        PolicyRefusal
            If the policy does not allow it, or cannot be read.
        """
        if self._pulled is None:
            raise self._refuse("a bundle came without a message; refused")
        policy = self._load_policy()
        self._log = SiteLog(policy.log_file)
        message, context, run, fab = self._pulled
        facts: dict[str, Any] = {
            "run": str(run.run_id),
            "message": printable(message.metadata.message_type, limit=_LONGEST_NAME),
            "round": printable(message.metadata.group_id, limit=_LONGEST_NAME),
            "bundle": sha256(content),
        }
        self._log.append("request", **facts, **_size(message))
        try:
            admission = judge(_request(content, message, context, run, fab), policy)
        except PolicyRefusal as refusal:
            if isinstance(refusal, UnknownBundle):
                self._keep(policy, content)
            self._log.append("refused", **facts, reason=short(str(refusal)))
            raise self._refuse(str(refusal)) from None
        varies = {"varies": ", ".join(admission.varies)} if admission.varies else {}
        self._log.append("accepted", **facts, experiment=admission.experiment, **varies)
        self._home = installed.prepare(policy.bundle_folder, admission.bundle, content)
        os.environ[BUNDLE_VARIABLE] = admission.bundle.sha256  # which the app binds into its masks
        self._admitted = True

    def unpacked(self) -> Path | None:
        """Return the folder of the admitted bundle, where an earlier message has unpacked it."""
        return installed.unpacked(self._home) if self._home is not None else None

    def check_admitted(self) -> None:
        """Refuse to load code that was not admitted by this gate, or is not what it admitted.

        Raises
        ------
        PolicyRefusal
            If `admit` has not succeeded before, or another thing was unpacked.
        """
        if not self._admitted or self._pulled is None or self._home is None:
            raise PolicyRefusal("code was about to run that the site's gate has not admitted")
        installed.check_unpacked(self._home, self._pulled[3].content)

    def make_way(self) -> None:
        """Drop the installed app's modules, unless the bundle is that app: then they serve."""
        content = self._pulled[3].content if self._pulled else b""
        if not own_app.is_own(installed.unpacked_files(content)):
            own_app.forget()

    def leaving(self, reply: Message) -> None:
        """Write down what is about to leave the house; no record, no reply.

        A refusal or a failure leaves in any case, as it holds nothing but the gate's own sentence:
        where the disk is full the coordinator would wait for a site that cannot answer.
        """
        refused = reply.has_error() and not self._admitted
        if self._log is None and not refused:
            raise PolicyRefusal("a reply was about to leave that the site's gate knows nothing of")
        if self._log is None:
            return
        error = {"error": reply.error.reason} if reply.has_error() else {}
        try:
            self._log.append("left", message=reply.metadata.message_type, **_size(reply), **error)
        except (OSError, DataError):
            if not refused and error.get("error") != FAILED_AT_SITE:
                raise

    def without_details(self, reply: Message) -> Message:
        """Return a reply whose failure says nothing but that there was one.

        The text of an exception may hold the name of a file, and so of a patient, and its kind is
        an answer to whoever chose the question: both stay in the site log. The gate's own
        refusals keep their sentence.
        """
        if not (reply.has_error() and self._pulled) or self._is_own_refusal(reply):
            return reply
        reason = reply.error.reason or ""
        if FAILED_AT_SITE not in reason:  # else the app has logged why (clients/mods/discretion.py)
            self._note_failure(reply.metadata.message_type, reason)
        return Message(Error(FAILED_CODE, FAILED_AT_SITE), reply_to=self._pulled[0])

    def _note_failure(self, message: str, reason: str) -> None:
        """Write a reason into the site's log; where that fails, to the process's output."""
        unwritten = ""
        try:
            if self._log is not None:
                self._log.append("failed", message=message, reason=reason)
                return
        except (OSError, DataError) as error:
            unwritten = f"; not logged: {error}"
        with contextlib.suppress(OSError):  # the output is a file on the same disk
            print(f"[gate] {printable(reason + unwritten, limit=2000)}", flush=True)

    def _is_own_refusal(self, reply: Message) -> bool:
        """Say whether a failed reply is this gate's refusal, in Flower's words for an exception."""
        own = f"{PolicyRefusal}:<'{self._refusal}'>"
        return bool(self._refusal) and not self._admitted and reply.error.reason == own

    def _refuse(self, sentence: str) -> PolicyRefusal:
        """Return a refusal, and remember it as what may leave."""
        self._refusal = short(sentence)
        return PolicyRefusal(self._refusal)

    def _load_policy(self) -> SitePolicy:
        try:
            return load_policy(self._policy_file)
        except PrimiaError as error:
            print(f"[gate] {printable(str(error), limit=2000)}", flush=True)
            raise self._refuse(
                "the site's policy cannot be read, so nothing is allowed; its staff finds the "
                "reason in the site's log folder"
            ) from None

    def _keep(self, policy: SitePolicy, content: bytes) -> None:
        """Keep code that nobody has looked at yet, if it can be looked at."""
        try:
            described = inspect(content)
        except PolicyRefusal:
            return
        store = BundleStore(policy.bundle_folder)
        new = described.sha256 not in store.hashes()
        if new and store.add(content, approved=policy.approved_bundles) and self._log:
            self._log.append("stored", bundle=described.sha256, bytes=len(content))


def check_flower(runtime: ModuleType = _clientapp_runtime, version: str = "") -> None:
    """Refuse to work with a Flower in which the gate might not stand in the way.

    Raises
    ------
    FederationError
        If the version was not tried, or `run_clientapp` has other steps than it had.
    """
    found = version or metadata.version("flwr")
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    names = getattr(getattr(runtime, "run_clientapp", None), "__code__", None)
    steps = [name for name in names.co_names if name in _STEPS] if names else []
    complete = steps == list(_STEPS) and all(callable(getattr(runtime, s, None)) for s in _STEPS)
    if numbers in _FLOWER_VERSIONS and complete:
        return
    raise FederationError(
        f"flwr {found}; expected flwr 1.41 or 1.42 with the steps {', '.join(_STEPS)} in "
        "run_clientapp, where the site's gate stands; install a version of primia-flwr that was "
        "tried with it"
    )


def close(gate: Gate, runtime: ModuleType = _clientapp_runtime) -> None:
    """Put the gate into Flower's ClientApp process.

    Raises
    ------
    FederationError
        If this Flower has no place for it.
    """
    check_flower(runtime)
    pull, install, loader, push = (getattr(runtime, step) for step in _STEPS)

    def gated_pull(*args: Any, **kwargs: Any) -> _Pulled:
        return gate.note(pull(*args, **kwargs))

    def gated_install(content: bytes, *args: Any, **kwargs: Any) -> Path:
        gate.admit(content)
        return gate.unpacked() or install(content, *args, **kwargs)

    def gated_loader(*args: Any, **kwargs: Any) -> Callable[..., Any]:
        load = loader(*args, **kwargs)

        def gated_load(*names: str) -> Any:
            gate.check_admitted()
            gate.make_way()
            return load(*names)

        return gated_load

    def gated_push(client: Any, message: Message, context: Context) -> None:
        message = gate.without_details(message)
        gate.leaving(message)
        push(client, message, context)

    gated = (gated_pull, gated_install, gated_loader, gated_push)
    for step, wrapper in zip(_STEPS, gated, strict=True):
        setattr(runtime, step, wrapper)


def answer(arguments: Sequence[str], policy_file: Path, work: Path) -> None:
    """Answer one message behind the gate, in the folder `work`.

    The arguments are those of `flwr-clientapp`. What runs here never runs in a process that
    answers another message.
    """
    os.chdir(work)
    installed.without_bytecode()
    sys.argv = ["flwr-clientapp", *arguments]
    close(Gate(policy_file))
    hasten_transfers()
    flwr_clientapp()


def _request(content: bytes, message: Message, context: Context, run: Run, fab: Fab) -> Request:
    return Request(
        bundle=content,
        claimed_hashes=(fab.hash_str, run.fab_hash),
        app_id=run.fab_id,
        app_version=run.fab_version,
        run_task=str(run.primary_task_type),
        message_type=message.metadata.message_type,
        run_config=context.run_config,
    )


def _size(message: Message) -> dict[str, int]:
    if not message.has_content():
        return {"arrays": 0, "bytes": 0}
    content = message.content
    arrays = [a for record in content.array_records.values() for a in record.values()]
    size = sum(len(array.data) for array in arrays)
    size += sum(record.count_bytes() for record in content.metric_records.values())
    size += sum(record.count_bytes() for record in content.config_records.values())
    return {"arrays": len(arrays), "bytes": size}
