"""The first look at a bundle: in the SuperNode, before Flower itself reads anything of it.

Flower's SuperNode reads the `pyproject.toml` of a bundle as soon as it has pulled it, long before
the gate is asked: one of 1 GiB cost 2 GiB of memory, and a bundle that is no zip file ended the
SuperNode's loop, and so the site. Here the bundle is bounded and checked first. One that cannot
run here is answered with a refusal, written into the site's log, and the loop goes on.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from primia_flwr.errors import FederationError, PolicyRefusal, PrimiaError
from primia_flwr.site.bundle.archive import check_size, sha256
from primia_flwr.site.bundle.contents import inspect
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import load_policy
from primia_flwr.storage.printable import printable, short

# By name: packages of Flower export functions that are called like their modules.
node_runtime = importlib.import_module("flwr.supernode.start_client_internal")

_LOOP, _PULL, _READ, _ANSWER = (
    *("start_client_internal", "_pull_and_store_message"),
    *("get_fused_config_from_fab", "_insert_message"),
)
_PULL_PARTS = ("state", "object_store", "node_config", "receive", "get_fab")


class _Refused(Exception):  # noqa: N818 - it carries a refusal out of Flower's own function
    """A bundle that must not be read further."""

    def __init__(self, reason: str, digest: str) -> None:
        super().__init__(reason)
        self.reason, self.digest = reason, digest


def check_supernode(module: ModuleType = node_runtime) -> None:
    """Refuse to work with a Flower whose SuperNode reads bundles elsewhere.

    Raises
    ------
    FederationError
        If the functions between which the first look stands are not there.
    """
    uses = {_LOOP: {_PULL}, _PULL: {_READ, _ANSWER}}
    for name, inner in uses.items():
        code = getattr(getattr(module, name, None), "__code__", None)
        if code is None or not inner <= set(code.co_names):
            raise _unknown_flower()
    code = getattr(module, _PULL).__code__
    if not set(_PULL_PARTS) <= set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]):
        raise _unknown_flower()
    if not callable(getattr(module, _ANSWER, None)) or not callable(getattr(module, _READ, None)):
        raise _unknown_flower()


def look_first(module: ModuleType = node_runtime) -> None:
    """Put the first look into Flower's SuperNode.

    Raises
    ------
    FederationError
        As `check_supernode`.
    """
    check_supernode(module)
    pull, read = getattr(module, _PULL), getattr(module, _READ)

    def looked_at(content: bytes, *args: Any, **kwargs: Any) -> Any:
        try:
            inspect(content)
            return read(content, *args, **kwargs)
        except Exception as error:  # Flower's own reader, on what a stranger wrote
            raise _Refused(_sentence(error), sha256(content)) from None

    def guarded(*, receive: Callable[[], Any], get_fab: Callable[..., Any], **rest: Any) -> Any:
        arrived = list[Message]()

        def noted() -> Any:
            received = receive()
            arrived.extend([received[0]] if received is not None else [])
            return received

        def bounded(*args: Any) -> Any:
            fab = get_fab(*args)
            try:
                check_size(len(fab.content))
            except PolicyRefusal as refusal:
                raise _Refused(str(refusal), "") from None
            return fab

        try:
            return pull(receive=noted, get_fab=bounded, **rest)
        except _Refused as refused:
            return _answer(module, arrived[0], refused, rest)

    setattr(module, _READ, looked_at)
    setattr(module, _PULL, guarded)


def _answer(
    module: ModuleType, message: Message, refused: _Refused, rest: dict[str, Any]
) -> int | None:
    """Write the refusal down and answer with it; without a record there is no answer."""
    metadata = message.metadata
    facts = {
        "run": str(metadata.run_id),
        "message": printable(metadata.message_type, limit=100),
        "round": printable(metadata.group_id, limit=100),
        "bundle": refused.digest,
    }
    try:
        policy = load_policy(Path(str(rest["node_config"]["site-file"])))
        sentence = short(f"site {policy.site} refuses: {refused.reason}")
        SiteLog(policy.log_file).append("refused", **facts, reason=sentence)
    except (PrimiaError, OSError, KeyError) as error:
        said = printable(str(error), limit=2000)
        print(f"[first look] {short(refused.reason)}; not answered: {said}", flush=True)
        return None
    reply = Message(
        Error(ErrorCode.INVALID_FAB, f"{PolicyRefusal}:<'{sentence}'>"), reply_to=message
    )
    getattr(module, _ANSWER)(reply, rest["state"], rest["object_store"])
    return int(metadata.run_id)


def _sentence(error: Exception) -> str:
    if isinstance(error, PolicyRefusal):
        return str(error)
    return "the bundle and the run's configuration do not fit; expected keys of the bundle's own"


def _unknown_flower() -> FederationError:
    return FederationError(
        "this flwr's SuperNode reads bundles elsewhere than flwr 1.41 and 1.42, where the site's "
        "first look stands; install a version of primia-flwr that was tried with it"
    )
