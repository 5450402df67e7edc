"""`primia attack poisoning`: what lying sites do to the model, under each rule."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from primia_flwr.cli.analysis.attack_table import show
from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.errors import ConfigError

# As in attacks.poisoning, which is not imported here: --help must not wait for PyTorch.
_ATTACKS = ("none", "label_flip", "boosted", "backdoor")
_RULES = ("fedavg", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan", "secure")


@dataclass
class _AttackPoisoningConfig:
    """Which run's images and training, how many lie and how, and which rules answer."""

    run: str = ""
    sites: int = 7
    liars: int = 1
    rounds: int = 0
    attacks: list[str] = field(default_factory=lambda: list(_ATTACKS))
    rules: list[str] = field(default_factory=lambda: list(_RULES))
    boost: float = 0.0
    target: int = 0
    patch: int = 0
    clip: float = 0.0
    device: str = "auto"
    output: str = ""
    dry_run: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("sites", self.sites, 3, 1000, example=7)
        check_range("liars", self.liars, 1, 499, example=1)
        check_range("rounds", self.rounds, 0, 10_000, example=10)
        check_range("boost", self.boost, 0, 1e6, example=7)
        check_range("target", self.target, 0, 9999, example=0)
        check_range("patch", self.patch, 0, 1024, example=4)
        check_range("clip", self.clip, 0, 1e6, example=0.1)
        for key, given, known in (
            ("attacks", self.attacks, _ATTACKS), ("rules", self.rules, _RULES),
        ):  # fmt: skip
            for name in given:
                check_choice(key, name, known)
            if not given or len(set(given)) != len(given):
                raise ConfigError(f"{key}={given}; expected each once, e.g. [{','.join(known)}]")


def _run(cfg: _AttackPoisoningConfig) -> dict[str, Any]:
    """Lie, and write `poisoning.json`, `poisoning.html` and `poisoning.png`."""
    from primia_flwr.attacks.membership.attacked_run import open_run
    from primia_flwr.attacks.poisoning.report import page_of, picture
    from primia_flwr.attacks.written import write_attack
    from primia_flwr.cli.analysis.scored_data import run_folder

    run = open_run(run_folder("run", cfg.run))
    output = Path(cfg.output).expanduser().resolve() if cfg.output else run.folder / "poisoning"
    poisoned, facts = _prepared(cfg, run)
    if cfg.dry_run:
        return {"run": str(run.folder), "dry_run": True, **facts}
    cells = _cells(cfg, poisoned, facts)
    page, (figure, alt) = page_of(cells, facts), picture(cells)
    values = {
        "run": str(run.folder),
        "output": str(output),
        "synthetic": poisoned.test.synthetic,
        **facts,
        "cells": [cell.to_dict() for cell in cells],
        "answer": page.answer,
    }
    write_attack(output, "poisoning", values, page, figure, alt)
    show(Console(stderr=cfg.quiet, emoji=False), page.headings, page.rows, page.answer, output)
    return {key: values[key] for key in ("run", "output", "sites", "liars", "rounds", "synthetic")}


def _prepared(cfg: _AttackPoisoningConfig, run: Any) -> tuple[Any, dict[str, Any]]:
    """Deal the images; return the federation, and what the lies and the rounds will be."""
    from primia_flwr.attacks.poisoning.federation import Poisoned
    from primia_flwr.training.normalisation import Normalisation

    normalisation = Normalisation(tuple(run.card.mean), tuple(run.card.std))
    poisoned = Poisoned.of(
        run.experiment, normalisation, sites=cfg.sites, liars=cfg.liars, device=cfg.device
    )
    classes, side = poisoned.test.classes, poisoned.test.images.shape[-1]
    if cfg.target >= len(classes):
        raise ConfigError(
            f"target={cfg.target}; expected a class from 0 to {len(classes) - 1}: "
            f"{', '.join(classes)}"
        )
    patch = cfg.patch or max(1, side // 8)
    if patch > side:
        raise ConfigError(f"patch={patch}; expected at most {side}, the side of an image")
    return poisoned, {
        "config_hash": run.card.config_hash,
        "sites": cfg.sites,
        "liars": cfg.liars,
        "rounds": cfg.rounds or run.experiment.federation.rounds,
        "boost": cfg.boost or cfg.sites / cfg.liars,
        "target": classes[cfg.target],
        "patch": patch,
        "images": [len(site) for site in poisoned.sites],
        "test_images": len(poisoned.test),
        "trainings": len(cfg.attacks) * len(cfg.rules) * cfg.sites,
    }


def _cells(cfg: _AttackPoisoningConfig, poisoned: Any, facts: dict[str, Any]) -> list[Any]:
    """Run every lie under every rule; `clip` of the facts is filled in."""
    from primia_flwr.attacks.poisoning.answers import fitting
    from primia_flwr.attacks.poisoning.liars import Lie
    from primia_flwr.attacks.poisoning.report import Cell
    from primia_flwr.pipeline.first_model import first_model

    facts["clip"] = cfg.clip or poisoned.largest_change()
    model = first_model(poisoned.experiment, len(poisoned.test.classes))
    parameters = frozenset(name for name, _ in model.named_parameters())
    answers, refused = fitting(
        cfg.rules, poisoned.experiment, parameters, liars=cfg.liars, clip=facts["clip"]
    )
    jobs = [(attack, answer) for attack in cfg.attacks for answer in answers]
    done = {}
    shown = track(jobs, "lies", console=Console(stderr=True), disable=cfg.quiet)
    for attack, answer in shown:
        lie = Lie(attack, facts["boost"], cfg.target, facts["patch"])
        outcome = poisoned.run(lie, answer, facts["rounds"])
        done[attack, answer.name] = Cell(attack, answer.name, outcome)
    return [
        done.get((attack, rule)) or Cell(attack, rule, reason=refused[rule])
        for attack in cfg.attacks
        for rule in cfg.rules
    ]


COMMAND = Command(
    words=("attack", "poisoning"),
    summary=(
        "let sites lie in a federation on a run's images: flipped labels, boosted updates, a back "
        "door; and see how each rule answers"
    ),
    examples=(
        "primia attack poisoning run=outputs/a",
        "primia attack poisoning run=outputs/a sites=11 liars=2 rounds=10",
        "primia attack poisoning run=outputs/a attacks=[none,backdoor] rules=[fedavg,bulyan]",
        "primia attack poisoning run=outputs/a dry_run=true",
    ),
    config_name="commands/analysis/attack_poisoning",
    schema=_AttackPoisoningConfig,
    run=_run,
    positional="run",
)
