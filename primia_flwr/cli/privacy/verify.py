"""`primia privacy verify`: whether a site's privacy ledger is whole and unchanged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError, DataError


@dataclass
class _VerifyArguments:
    """Arguments of `primia privacy verify`.

    `head`: a hash that somebody noted before. `seq`: the number of its entry, as the site noted
    it; or `answers`: how many answers were paid for by then, as the coordinator did.
    """

    ledger: str = ""
    seq: int = 0
    answers: int = 0
    head: str = ""
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("seq", self.seq, 0, 1e9, example=12)
        check_range("answers", self.answers, 0, 1e9, example=3)
        if self.answers and self.seq:
            raise ConfigError(
                f"seq={self.seq} with answers={self.answers}; expected one of them, as it was noted"
            )
        if bool(self.seq or self.answers) != bool(self.head):
            raise ConfigError(
                f"seq={self.seq} answers={self.answers} with head={self.head!r}; expected both or "
                "neither, as `primia privacy show` prints them, or ledger-heads.json "
                "of the coordinator has them"
            )


def _run(cfg: _VerifyArguments) -> dict[str, Any]:
    """Check the chain, the head file, every version of the data and the price of every plan.

    The exit code is 1 if something is broken.
    """
    from primia_flwr.privacy.ledger.file import LEDGER
    from primia_flwr.privacy.ledger.view import read_ledger

    folder = Path(cfg.ledger)
    if not cfg.ledger or not (folder / LEDGER).is_file():
        raise ConfigError(
            f"ledger={cfg.ledger}; expected a folder with {LEDGER}, e.g. state/privacy of a site"
        )
    console = Console(stderr=cfg.quiet, emoji=False)
    try:
        with read_ledger(folder) as ledger:
            ledger.verify_data()
            ledger.verify_plans()
            check = ledger.check_answers if cfg.answers else ledger.check_witness
            check(cfg.answers or cfg.seq, cfg.head)
            head, unfinished = ledger.head(), ledger.unfinished()
    except DataError as error:
        Console(stderr=True, emoji=False).print(f"broken: {error}", markup=False, soft_wrap=True)
        return {"ok": False, "ledger": str(folder), "why": str(error)}
    console.print(f"{folder}: {head.seq} entries, chain unbroken, head {head.hash}", soft_wrap=True)
    if unfinished:
        console.print(
            f"a crash left {unfinished} bytes of an entry that nothing was released for; the next "
            "run cuts them off and says so",
            soft_wrap=True,
        )
    return {
        "ok": True,
        "ledger": str(folder),
        "seq": head.seq,
        "head": head.hash,
        "unfinished": unfinished,
    }


COMMAND = Command(
    words=("privacy", "verify"),
    summary=(
        "is the privacy ledger whole: hashes, end, versions of the data, prices of planned runs, "
        "and a head that somebody noted before; exit code 1 if not"
    ),
    examples=(
        "primia privacy verify ledger=state/privacy",
        "primia privacy verify state/privacy seq=12 head=5e88…      # as somebody noted it here",
        "primia privacy verify state/privacy answers=9 head=5e88…   # as the coordinator saw it",
    ),
    config_name="commands/privacy/verify",
    schema=_VerifyArguments,
    run=_run,
    positional="ledger",
)
