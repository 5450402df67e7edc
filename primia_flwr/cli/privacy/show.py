"""`primia privacy show`: what has been spent on a site's patients, and what is left."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.site.policy import load_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from primia_flwr.privacy.ledger.account import Charge
    from primia_flwr.privacy.ledger.statement import PlanLine, Statement

_SHORT = 12


@dataclass
class _ShowArguments:
    """Arguments of `primia privacy show`: the site, or the folder of a ledger."""

    site: str = "site.yaml"
    ledger: str = ""
    ceiling: float = 0.0
    last: int = 10
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("ceiling", self.ceiling, 0, 1000, example=3)
        check_range("last", self.last, 0, 1_000_000, example=10)


def _run(cfg: _ShowArguments) -> dict[str, Any]:
    """Verify a ledger, print what was spent, and return it."""
    from primia_flwr.privacy.ledger.statement import statement
    from primia_flwr.privacy.ledger.view import read_ledger

    folder, allowed = Path(cfg.ledger), 0.0
    if not cfg.ledger:
        policy = load_policy(Path(cfg.site))
        folder, allowed = policy.privacy_folder, policy.max_epsilon
    with read_ledger(folder) as ledger:
        found = statement(ledger, ceiling=cfg.ceiling or allowed or None)
        charges = ledger.charges()
    console = Console(stderr=cfg.quiet, emoji=False)
    console.print(_summary(found))
    if found.plans:
        console.print(_plans(found.plans))
    console.print(_newest(charges[len(charges) - min(cfg.last, len(charges)) :]))
    console.print(
        f"Most used {found.unit}: epsilon {found.epsilon:.4g} of {_figure(found.ceiling)} at "
        f"delta {found.delta:g}, by the filter, over all runs: {_runs(found)} and "
        f"{found.by_rdp:.4g} by Rényi divergences of what was charged. "
        f"Head {found.seq}, {found.head}",
        soft_wrap=True,
    )
    return {"ledger": str(folder), **found.as_json()}


def _summary(found: "Statement") -> Table:
    table = Table(title=f"Privacy of site {found.site}, unit: {found.unit}", title_justify="left")
    table.add_column("data version", no_wrap=True)
    for heading in (
        f"{found.unit}s",
        "charges",
        "epsilon alone",
        f"epsilon of its\nmost used {found.unit}",
        "left of ceiling",
    ):
        table.add_column(heading, justify="right")
    for line in found.versions:
        figures = map(_figure, (line.alone, line.worst, line.left))
        table.add_row(line.version[:_SHORT], str(line.units), str(line.charges), *figures)
    return table


def _runs(found: "Statement") -> str:
    if found.by_runs is None:
        return "something was released beyond planned runs,"
    return f"the smaller of {found.by_runs:.4g} by planned runs as wholes"


def _plans(plans: "Sequence[PlanLine]") -> Table:
    table = Table(
        title="Planned runs; all of one is paid at its first charge", title_justify="left"
    )
    for heading in ("#", "run", "data version", "plan", "epsilon", "delta", "charged"):
        table.add_column(heading, overflow="fold")
    for plan in plans:
        table.add_row(
            str(plan.seq),
            escape(plan.run),
            plan.version[:_SHORT],
            "; ".join(plan.events),
            f"{plan.epsilon:.4g} ({plan.accountant.upper()})",
            f"{plan.delta:.3g}",
            f"{plan.charged} of {plan.planned}",
        )
    return table


def _newest(charges: "Sequence[Charge]") -> Table:
    table = Table(
        title=f"The newest {len(charges)} charges; epsilon is that after each", title_justify="left"
    )
    for heading in ("#", "time (UTC)", "run", "round", "what left", "mechanism", "epsilon"):
        table.add_column(heading, overflow="fold")
    for charge in charges:
        table.add_row(
            str(charge.seq),
            charge.time[:16].replace("T", " "),
            escape(charge.run),
            str(charge.instance),
            escape(charge.what),
            charge.event.words(),
            f"{charge.epsilon:.4g}",
        )
    return table


def _figure(value: float | None) -> str:
    return "no ceiling" if value is None else f"{value:.4g}"


COMMAND = Command(
    words=("privacy", "show"),
    summary=(
        "what has been spent on this site's patients, by version of the data and by release, and "
        "what the ceiling leaves; the whole ledger is verified first"
    ),
    examples=(
        "primia privacy show",
        "primia privacy show site=kit-munich/site.yaml last=50",
        "primia privacy show ledger=state/privacy ceiling=3",
    ),
    config_name="commands/privacy/show",
    schema=_ShowArguments,
    run=_run,
    positional="ledger",
)
