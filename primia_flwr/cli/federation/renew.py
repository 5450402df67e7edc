"""`primia federation renew`: a later end for the SuperLink's certificate, under the same CA."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.federation import changes
from primia_flwr.config.checks import check_range


@dataclass
class _RenewArguments:
    """Arguments of `primia federation renew`; `days`: how long the new certificate is valid."""

    name: str = "fl"
    days: int = 730
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("days", self.days, 1, 3650, example=730)


def _run(cfg: _RenewArguments) -> dict[str, Any]:
    """Renew what ends, and say what to do next."""
    folder, _ = changes.open_folder(cfg.name)
    renewed = folder.renew(days=cfg.days)
    console, until = Console(stderr=cfg.quiet, emoji=False), renewed.certificate.not_valid_after_utc
    changes.show(console, f"{folder.files.certificate} is valid to {until:%Y-%m-%d}.")
    before = renewed.old.not_valid_after_utc
    if until < before:
        changes.show(console, f"That is sooner than before: the old one was, to {before:%Y-%m-%d}.")
    changes.show(console, "1. Start the SuperLink again: it reads the certificate when it starts")
    if renewed.ca is None:
        changes.show(console, "2. The sites have nothing to do: their ca.crt and keys stay")
    else:
        end = renewed.ca.not_valid_after_utc
        changes.show(console, f"2. The CA's certificate was renewed, too, to {end:%Y-%m-%d}, for")
        changes.show(console, f"   the same key. Send {folder.files.ca} to all sites; each runs")
        changes.show(console, "   primia site ca ca.crt")
    return {
        "federation": str(folder.folder),
        "superlink_until": until.isoformat(),
        "ca_until": renewed.ca.not_valid_after_utc.isoformat() if renewed.ca else None,
        "ca_renewed": renewed.ca is not None,
    }


COMMAND = Command(
    words=("federation", "renew"),
    summary="renew the SuperLink's certificate, and the CA's where it ends; keys stay",
    examples=("primia federation renew", "primia federation renew name=fl days=365"),
    config_name="commands/federation/renew",
    schema=_RenewArguments,
    run=_run,
    positional="name",
)
