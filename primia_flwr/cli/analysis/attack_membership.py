"""`primia attack membership`: tell who was in the training of a run's final model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from primia_flwr.attacks.membership.attacked_run import AttackedRun
    from primia_flwr.attacks.membership.dp_line import DpClaim
    from primia_flwr.attacks.membership.shadow_models import OnShadow

_VARIANCES = ("auto", "pooled", "per_image")


@dataclass
class _RunDataConfig:
    """Where the run's images are on this machine; a key left None is as in the run."""

    root: Optional[str] = None
    manifest: Optional[str] = None
    cache_dir: Optional[str] = None
    workers: Optional[int] = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_range("data.workers", self.workers, 0, 256, example=0)


@dataclass
class AttackMembershipConfig:
    """Which run, who attacks, and with how many shadow models."""

    run: str = ""
    data: _RunDataConfig = field(default_factory=_RunDataConfig)
    site: str = ""
    shadows: int = 8
    variance: str = "auto"
    seed: int = 1
    output: str = ""
    device: str = "auto"
    dry_run: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("shadows", self.shadows, 2, 10_000, example=8)
        check_choice("variance", self.variance, _VARIANCES)
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)


def _run(cfg: AttackMembershipConfig) -> dict[str, Any]:
    """Attack, and write `membership.json`, `membership.csv` and `membership.html`."""
    from primia_flwr.attacks.membership.attack import prepare
    from primia_flwr.attacks.membership.attacked_run import open_run
    from primia_flwr.attacks.membership.report import attacks_table, figures, write_membership

    folder = _run_dir(cfg)
    attacked = _with_data(open_run(folder), cfg.data)
    output = _output(cfg, folder)
    console = Console(stderr=cfg.quiet, emoji=False)
    attack = prepare(
        attacked,
        own_site=cfg.site,
        shadows=cfg.shadows,
        seed=cfg.seed,
        device=cfg.device,
        folder=output,
    )
    facts = attack.facts()
    _announce(console, facts)
    if cfg.dry_run:
        return {"run": str(folder), "dry_run": True, **facts}
    with _progress(console, cfg.shadows, quiet=cfg.quiet) as on_shadow:
        found = attack.carry_out(variance=cfg.variance, seed=cfg.seed, on_shadow=on_shadow)
    values = figures(attack, found, _claim(attacked), variance=cfg.variance)
    write_membership(output, attack, found, values)
    console.print(values["answer"], markup=False, style="bold", soft_wrap=True)
    console.print(attacks_table(found))
    for note in values["notes"]:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    _against_the_bound(console, values["privacy"])
    console.print(f"written: {output / 'membership.html'}", markup=False, soft_wrap=True)
    return _summary(folder, output, values)


def _run_dir(cfg: AttackMembershipConfig) -> Path:
    path = Path(cfg.run).expanduser().resolve()
    if not cfg.run or not path.is_dir():
        raise ConfigError(
            f"run={cfg.run!r}; expected the output folder of a finished run, "
            "e.g. run=outputs/2026-01-31/12-00-00-demo"
        )
    return path


def _output(cfg: AttackMembershipConfig, folder: Path) -> Path:
    """Return the folder of the attack; it is made when something is written."""
    if cfg.output:
        path = Path(cfg.output).expanduser().resolve()
    else:
        path = folder / (f"membership-{cfg.site}" if cfg.site else "membership")
    if path.exists() and not path.is_dir():
        raise ConfigError(f"output={cfg.output}; expected a folder, and it is a file; name another")
    return path


def _with_data(attacked: "AttackedRun", data: _RunDataConfig) -> "AttackedRun":
    from primia_flwr.config.experiment.data import with_absolute_paths

    given = {item.name: getattr(data, item.name) for item in fields(data)}
    changes = {key: value for key, value in given.items() if value is not None}
    own = with_absolute_paths(replace(attacked.experiment.data, **changes))
    return replace(attacked, experiment=replace(attacked.experiment, data=own))


def _claim(attacked: "AttackedRun") -> "DpClaim | None":
    """Return the run's guarantee: as its ledgers count it, else what was asked for."""
    from primia_flwr.attacks.membership.dp_line import DpClaim
    from primia_flwr.reporting.chapters.privacy import privacy_account

    account = privacy_account(attacked.folder, asdict(attacked.experiment))
    if account is None:
        return None
    epsilon = account.facts.get("epsilon") or account.facts["epsilon_asked"]
    if not epsilon:
        return None
    return DpClaim(float(epsilon), account.facts["delta"], account.facts["unit"])


def _announce(console: Console, facts: dict[str, Any]) -> None:
    members, others, shadows = facts["members"], facts["non_members"], facts["shadows"]
    console.print(
        f"{members['images']} images of {members['patients']} members, {others['images']} of "
        f"{others['patients']} non-members; {shadows['models']} shadow models of "
        f"{shadows['mean_images']:.0f} images, {shadows['image_passes']:,} image passes in all, "
        f"{shadows['finished']} models kept from before",
        markup=False,
        soft_wrap=True,
    )


@contextmanager
def _progress(console: Console, shadows: int, *, quiet: bool) -> "Iterator[OnShadow]":
    bar = Progress(
        TextColumn("shadow models"),
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
        transient=True,
    )
    with bar:
        task = bar.add_task("shadows", total=shadows)
        yield lambda done, part: bar.update(task, completed=done + part)


def _against_the_bound(console: Console, privacy: dict[str, Any] | None) -> None:
    if privacy is None:
        return
    console.print(
        f"the run claims epsilon {privacy['epsilon']:.3g} at delta {privacy['delta']:g} for one "
        f"{privacy['unit']}: TPR is at most e^epsilon FPR + delta",
        markup=False,
        soft_wrap=True,
    )
    for name, lines in privacy["against_the_bound"].items():
        for line in lines:
            console.print(
                f"  {name}: TPR {line['tpr']:.3f} at FPR {line['fpr']:g}, at most "
                f"{line['most_allowed']:.3f}: {line['verdict']}",
                markup=False,
                soft_wrap=True,
            )


def _summary(folder: Path, output: Path, values: dict[str, Any]) -> dict[str, Any]:
    strongest = {
        name: {
            "auc": levels["image"]["auc"]["value"],
            "tpr_at_1_percent_fpr": (levels["image"]["tpr_at_fpr"]["0.01"] or {}).get("value"),
        }
        for name, levels in values["attacks"].items()
    }
    return {
        "run": str(folder),
        "output": str(output),
        "members": values["members"]["images"],
        "non_members": values["non_members"]["images"],
        "shadows": values["shadows"]["models"],
        **strongest,
        "synthetic": values["synthetic"],
    }


COMMAND = Command(
    words=("attack", "membership"),
    summary=(
        "tell from a run's final model who was in its training: loss threshold and LiRA, ROC with "
        "the true positive rate at 1 % and 0.1 % false positives"
    ),
    examples=(
        "primia attack membership run=outputs/a",
        "primia attack membership run=outputs/a data.root=chest_xray shadows=16 device=cuda",
        "primia attack membership run=outputs/a site=munich",
        "primia attack membership run=outputs/a dry_run=true",
    ),
    config_name="commands/analysis/attack_membership",
    schema=AttackMembershipConfig,
    run=_run,
    positional="run",
)
