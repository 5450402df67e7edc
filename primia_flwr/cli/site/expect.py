"""`primia site expect <hash>`: keep a place for code that the hospital wants to look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.site.bundle.contents import BundleStore
from primia_flwr.site.policy import load_policy


@dataclass
class _ExpectArguments:
    """Arguments of `primia site expect`: the whole hash, as the coordinator tells it."""

    site: str = "site.yaml"
    bundle: str = ""
    quiet: bool = False


def _run(cfg: _ExpectArguments) -> dict[str, Any]:
    """Keep a place in the waiting room, which others cannot take; nothing may run by this."""
    digest = cfg.bundle.lower()
    store = BundleStore(load_policy(Path(cfg.site)).bundle_folder)
    store.expect(digest)
    here = digest in store.hashes()
    Console(stderr=cfg.quiet, emoji=False).print(
        f"{digest}: {'is here and stays' if here else 'has a place when it comes'}; look at it "
        "with primia site review",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    return {"bundle": digest, "here": here}


COMMAND = Command(
    words=("site", "expect"),
    summary="keep a place for a bundle that you want to look at, however much else arrives",
    examples=("primia site expect <64 hex digits, as the coordinator tells them>",),
    config_name="commands/site/expect",
    schema=_ExpectArguments,
    run=_run,
    positional="bundle",
)
