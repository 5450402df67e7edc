"""`primia privacy plan`: what an epsilon costs in noise, and how far given noise reaches."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_choice, check_length, check_range
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from primia_flwr.privacy.accounting.filter import SiteFilter, Spent
    from primia_flwr.privacy.accounting.plan import Reach, Row

_ENDINGS = (".svg", ".png")


@dataclass
class _PlanArguments:
    """Arguments of `primia privacy plan`: public facts about the data, and what is wished."""

    units: int = 1000
    batch: int = 64
    epsilons: list[float] = field(default_factory=lambda: [1.0, 2.0, 4.0, 8.0])
    epochs: list[float] = field(default_factory=lambda: [5.0, 10.0, 20.0, 40.0])
    noise_multipliers: list[float] = field(default_factory=lambda: [0.8, 1.0, 1.5, 2.0])
    delta: float = 0.0
    ledger: str = ""
    output: str = ""
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("units", self.units, 2, 1e9, example=4708)
        check_range("delta", self.delta, 0, 1, example=1e-6, open_high=True)
        check_length("epsilons", self.epsilons, 1, 20, example="[1, 2, 4, 8]")
        check_length("epochs", self.epochs, 1, 20, example="[5, 10, 20]")
        check_length("noise_multipliers", self.noise_multipliers, 0, 20, example="[1, 2]")
        if self.output:
            check_choice("ending of output", Path(self.output).suffix, _ENDINGS)


def _run(cfg: _PlanArguments) -> dict[str, Any]:
    """Print both tables, draw the first one if asked, and return them."""
    from primia_flwr.privacy.accounting.plan import Data, delta_for, reaches, rows

    data = Data(cfg.units, cfg.batch)
    site, before = _ledger(cfg.ledger)
    delta = site.delta if site else cfg.delta or delta_for(cfg.units)
    if cfg.delta not in (0, delta):
        raise ConfigError(f"delta={cfg.delta}; expected {delta}, with which the ledger began")
    common: Any = {"epsilons": cfg.epsilons, "delta": delta, "site": site, "before": before}
    found = rows(data, epochs=cfg.epochs, **common)
    reach = reaches(data, noise_multipliers=cfg.noise_multipliers, **common)
    console = Console(stderr=cfg.quiet, emoji=False)
    console.print(_noise_table(found, f"{cfg.units} units, {cfg.batch} a step, delta {delta:g}"))
    if reach:
        console.print(_reach_table(reach))
    if cfg.output:
        _draw(found, Path(cfg.output), console)
    return {
        "units": cfg.units,
        "batch": cfg.batch,
        "sampling_rate": data.sampling_rate,
        "delta": delta,
        "spent": site.epsilon(before) if site and before is not None else 0.0,
        "noise": [_finite(asdict(row)) for row in found],
        "reach": [asdict(row) for row in reach],
        "output": cfg.output,
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return figures with None in place of what no noise is enough for."""
    return {name: None if math.isinf(value) else value for name, value in row.items()}


def _ledger(folder: str) -> "tuple[SiteFilter | None, Spent | None]":
    from primia_flwr.privacy.ledger.view import read_ledger

    if not folder:
        return None, None
    with read_ledger(Path(folder)) as ledger:
        return ledger.account.constants.filter, ledger.most_used()


_NOISE_HEADINGS = (
    "ceiling",
    "epochs",
    "steps",
    "noise\nmulti-\nplier",
    "Rényi\nalone",
    "filter's\nspend",
    "PLD, all\nof delta",
    "noise on\nmean",
)


def _noise_table(found: "list[Row]", facts: str) -> Table:
    table = Table(title=f"Noise that an epsilon needs: {facts}", title_justify="left")
    for heading in _NOISE_HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    last = None
    for row in found:
        if last not in (None, row.epsilon):
            table.add_section()
        last = row.epsilon
        table.add_row(
            f"{row.epsilon:g}",
            f"{row.epochs:g}",
            str(row.steps),
            f"{row.noise_multiplier:.3f}",
            _noise(row.noise_rdp),
            f"{row.epsilon_filter:.3f}",
            f"{row.epsilon_pld:.3f}",
            f"{row.noise_on_mean:.4f}",
        )
    return table


def _noise(value: float) -> str:
    return "none" if math.isinf(value) else f"{value:.3f}"


def _reach_table(reach: "list[Reach]") -> Table:
    table = Table(title="How far a noise multiplier reaches", title_justify="left")
    for heading in ("ceiling", "noise multiplier", "steps", "epochs"):
        table.add_column(heading, justify="right")
    for row in reach:
        cells = (f"{row.noise_multiplier:g}", str(row.steps), f"{row.epochs:.1f}")
        table.add_row(f"{row.epsilon:g}", *cells)
    return table


def _draw(found: "list[Row]", output: Path, console: Console) -> None:
    from primia_flwr.privacy.accounting.plan import curves
    from primia_flwr.reporting.plots.privacy import draw_noise

    draw_noise(curves(found), output)
    console.print(f"drawn: {output}", soft_wrap=True)


COMMAND = Command(
    words=("privacy", "plan"),
    summary=(
        "what can I afford: the noise multiplier that each epsilon needs for so many epochs, and "
        "how far given noise reaches; nothing is spent"
    ),
    examples=(
        "primia privacy plan units=4708 batch=256",
        "primia privacy plan units=4708 batch=256 'epsilons=[3]' 'epochs=[10,30,100]' "
        "output=plan.svg",
        "primia privacy plan units=4708 batch=256 ledger=state/privacy   # on top of what is spent",
    ),
    config_name="commands/privacy/plan",
    schema=_PlanArguments,
    run=_run,
)
