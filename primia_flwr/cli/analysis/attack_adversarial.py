"""`primia attack adversarial`: how little must change for a run's final model to err."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from primia_flwr.cli.analysis.attack_table import show
from primia_flwr.cli.analysis.scored_data import ScoredDataConfig, images_for, run_folder
from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError


@dataclass
class _AttackAdversarialConfig:
    """Which model on which images, how far they may change, and how long to search."""

    run: str = ""
    data: ScoredDataConfig = field(default_factory=ScoredDataConfig)
    levels: list[float] = field(default_factory=lambda: [0.0, 1.0, 2.0, 4.0, 8.0])
    images: int = 0
    steps: int = 20
    restarts: int = 2
    batch_size: int = 64
    seed: int = 1
    device: str = "auto"
    output: str = ""
    quiet: bool = False

    def __post_init__(self) -> None:
        fits = all(math.isfinite(one) and 0 <= one <= 255 for one in self.levels)
        if not self.levels or not fits or sorted(set(self.levels)) != self.levels:
            raise ConfigError(
                f"levels={self.levels}; expected rising grey levels from 0 to 255, e.g. [0,1,2,4,8]"
            )
        check_range("images", self.images, 0, 10**7, example=200)
        check_range("steps", self.steps, 1, 10_000, example=20)
        check_range("restarts", self.restarts, 1, 100, example=2)
        check_range("batch_size", self.batch_size, 1, 65536, example=64)
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)


def _run(cfg: _AttackAdversarialConfig) -> dict[str, Any]:
    """Attack, and write `adversarial.json`, `adversarial.html` and `adversarial.png`."""
    run_dir = run_folder("run", cfg.run)
    from primia_flwr.attacks.adversarial.report import page_of, picture
    from primia_flwr.attacks.written import write_attack
    from primia_flwr.models.saved import load_model

    model, card = load_model(run_dir)
    images = images_for(run_dir, card, cfg.data).images
    if images.labels.ndim != 1:
        raise ConfigError(
            f"the model's task is {images.task.name}; expected classification: what an error is is "
            "asked of a class an image"
        )
    if cfg.images:
        images = images.select(range(min(cfg.images, len(images))))
    levels = _levels(cfg, model, card, images)
    output = Path(cfg.output).expanduser().resolve() if cfg.output else run_dir / "adversarial"
    page, (figure, alt) = page_of(levels), picture(levels)
    values = {
        "run": str(run_dir),
        "output": str(output),
        "config_hash": card.config_hash,
        "synthetic": images.synthetic,
        "steps": cfg.steps,
        "restarts": cfg.restarts,
        "levels": [one.to_dict() for one in levels],
        "answer": page.answer,
    }
    write_attack(output, "adversarial", values, page, figure, alt)
    show(Console(stderr=cfg.quiet, emoji=False), page.headings, page.rows, page.answer, output)
    return {key: values[key] for key in ("run", "output", "levels", "synthetic")}


def _levels(cfg: _AttackAdversarialConfig, model: Any, card: Any, images: Any) -> list[Any]:
    """Return the accuracy that each method leaves at each distance."""
    import torch

    from primia_flwr.attacks.adversarial.perturbation import Attacked
    from primia_flwr.attacks.adversarial.report import Level
    from primia_flwr.training.device import pick_device
    from primia_flwr.training.normalisation import Normalisation

    scale, device = Normalisation(card.mean, card.std), pick_device(cfg.device, key="device")
    drawn = torch.Generator().manual_seed(cfg.seed)
    attacked = Attacked(model, scale, device, cfg.steps, cfg.restarts, drawn)

    def left(method: str, levels: float) -> float:
        wrong = attacked.wrong(images, method, levels / 255, cfg.batch_size)
        return 1 - float(wrong.double().mean())

    shown = track(cfg.levels, "levels", console=Console(stderr=True), disable=cfg.quiet)
    return [Level(n, len(images), left("fgsm", n), left("pgd", n)) for n in shown]


COMMAND = Command(
    words=("attack", "adversarial"),
    summary=(
        "change test images by little so that a run's final model errs: FGSM and PGD, and the "
        "accuracy that is left by distance"
    ),
    examples=(
        "primia attack adversarial run=outputs/a",
        "primia attack adversarial run=outputs/a data.root=chest_xray images=200 device=cuda",
        "primia attack adversarial run=outputs/a levels=[0,0.5,1,2] steps=50 restarts=5",
    ),
    config_name="commands/analysis/attack_adversarial",
    schema=_AttackAdversarialConfig,
    run=_run,
    positional="run",
)
