"""`primia synthesise`: labelled synthetic images of a site, with differential privacy."""

import shlex
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.errors import ConfigError
from primia_flwr.synthesis.config import GeneratorConfig, SynthesisPrivacy

if TYPE_CHECKING:
    from primia_flwr.data.dataset import LabelledImages
    from primia_flwr.privacy.accounting.events import SampledGaussian
    from primia_flwr.synthesis.release import Account, Paid, Request

_MOST = 100_000  # images of a class
_ROUNDING = 1 + 1e-6


@dataclass
class _SynthesiseConfig:
    """Arguments of `primia synthesise`; `counts`: images of each class, in place of `images`."""

    output: str = ""
    images: int = 500
    counts: list[int] = field(default_factory=list)
    site: str = ""
    ledger: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    privacy: SynthesisPrivacy = field(default_factory=SynthesisPrivacy)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    device: str = "auto"
    seed: int = 1
    dry_run: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)
        check_range("images", self.images, 1, _MOST, example=500)
        for number in self.counts:
            check_range("counts", number, 0, _MOST, example=500)
        if self.counts and not any(self.counts):
            raise ConfigError(
                f"counts={self.counts}; expected at least one image: the ledger would be charged "
                "for none"
            )
        if self.site and self.ledger:
            raise ConfigError(
                f"ledger={self.ledger} with site={self.site}; expected one of them: a site's "
                "policy has its own ledger"
            )

    def counts_of(self, classes: int) -> list[int]:
        """Return how many images of each class are written."""
        if self.counts and len(self.counts) != classes:
            raise ConfigError(
                f"counts={self.counts} with {classes} classes; expected one number a class"
            )
        return list(self.counts) or [self.images] * classes


def _run(cfg: _SynthesiseConfig) -> dict[str, Any]:
    """Train a generator, pay for it, and write what it makes; the same command again is free."""
    from primia_flwr.synthesis.folder import check_class_names, check_output
    from primia_flwr.training.device import pick_device

    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    pick_device(cfg.device, key="device")
    cfg, account, outside = _at_site(cfg)
    _check_data(cfg.data)
    check_output(cfg.output, root=cfg.data.root)
    request = _request(cfg, account)
    outside |= account.outside(run=request.run, epsilon=cfg.privacy.epsilon)
    images = _images(cfg, account, outside)
    check_class_names(images.classes)
    counts = cfg.counts_of(len(images.classes))
    if cfg.dry_run:
        return _planned(cfg, account, images, request, counts, console)
    return _released(cfg, account, images, request, counts, console)


def _at_site(cfg: _SynthesiseConfig) -> tuple[_SynthesiseConfig, "Account", frozenset[str]]:
    """Return what the site's policy makes of it, the ledger's rules, and who takes no part."""
    from primia_flwr.site.limits import PatientLimits, read_limits
    from primia_flwr.site.policy import load_policy
    from primia_flwr.synthesis.release import Account

    own = cfg.privacy
    if not cfg.site:
        folder = Path(cfg.ledger).expanduser() if cfg.ledger else _beside(cfg.data.cache_dir)
        ceiling = own.ceiling or own.epsilon
        return cfg, Account(folder, "local", own.unit, own.delta, ceiling), frozenset()
    policy = load_policy(Path(cfg.site))
    limits = PatientLimits()
    if policy.patient_limits:
        limits = read_limits(policy.path(policy.patient_limits))
    data = policy.data_of(cfg.data)
    data = replace(data, classes=list(policy.data_classes or data.classes))
    account = Account(
        policy.privacy_folder,
        policy.site,
        policy.privacy_unit,
        policy.privacy_delta,
        policy.max_epsilon or None,
        limits.limited,
    )
    return replace(cfg, data=data), account, limits.outside(private=True)


def _beside(cache_dir: str) -> Path:
    from primia_flwr.data.pseudonyms import private_folder

    return private_folder(cache_dir) / "privacy"


def _check_data(data: DataConfig) -> None:
    from primia_flwr.synthesis.networks import SIZES

    task = TASKS[data.task]
    if task.masked or task.several:
        raise ConfigError(
            f"data.task={data.task}; expected classification: a generated image has one class"
        )
    if data.channels != 1:
        raise ConfigError(f"data.channels={data.channels}; expected 1: images are made in grey")
    if data.image_size not in SIZES:
        sizes = " or ".join(map(str, SIZES))
        raise ConfigError(f"data.image_size={data.image_size}; expected {sizes}")
    if not data.classes and data.layout != "synthetic":
        raise ConfigError(
            "data.classes=[]; expected the names of the classes, e.g. "
            "'data.classes=[NORMAL,PNEUMONIA]': which are found may depend on one patient, and "
            "the folders' names would tell it"
        )


def _request(cfg: _SynthesiseConfig, account: "Account") -> "Request":
    """Return what is asked for: everything that changes the generator, and where the data lie."""
    from primia_flwr.config.experiment.data import with_absolute_paths
    from primia_flwr.synthesis.release import Request

    data = {k: v for k, v in asdict(with_absolute_paths(cfg.data)).items() if k not in _NOT_ASKED}
    privacy = {**asdict(cfg.privacy), "unit": account.unit, "delta": account.delta, "ceiling": 0}
    return Request.of(
        {"data": data, "privacy": privacy, "generator": asdict(cfg.generator), "seed": cfg.seed}
    )


_NOT_ASKED = (
    "cache_dir",
    "workers",
    "partition",
    "normalisation",
    "augmentation",
    "mixup",
    "test_fraction",
    "val_fraction",
)


def _images(
    cfg: _SynthesiseConfig, account: "Account", outside: frozenset[str]
) -> "LabelledImages":
    """Return all of the site's images but those of a test folder."""
    from primia_flwr.data.dataset import load_own_site

    site = load_own_site(cfg.data, seed=cfg.seed, name=account.site, without=outside)
    return site.train.joined(site.val)


def _planned(
    cfg: _SynthesiseConfig,
    account: "Account",
    images: "LabelledImages",
    request: "Request",
    counts: list[int],
    console: Console,
) -> dict[str, Any]:
    """Say what it would cost, and do nothing."""
    from primia_flwr.privacy.mechanisms.units import units_of
    from primia_flwr.synthesis.release import outlook

    units = len(units_of(account.unit, images.patients, images.digests))
    found = outlook(account, request, cfg.privacy, units=units)
    ceiling = "no ceiling" if account.ceiling is None else f"a ceiling of {account.ceiling:g}"
    console.print(
        f"{_promise(cfg, account)}: {found.event.words()}, of {units} {account.unit}s; the ledger "
        f"has charged {found.spent:.4g} so far, with {ceiling}"
        + ("; this generator among it: free" if found.paid else ""),
        markup=False,
        soft_wrap=True,
    )
    after = found.spent if found.paid else found.spent + cfg.privacy.epsilon
    return {
        **_facts(cfg, account, found.event, units)["privacy"],
        "spent": found.spent,
        "paid": found.paid,
        "ceiling": account.ceiling,
        "images": dict(zip(images.classes, counts, strict=True)),
        "output": None,
        "ok": account.ceiling is None or after <= account.ceiling * _ROUNDING,
    }


def _released(
    cfg: _SynthesiseConfig,
    account: "Account",
    images: "LabelledImages",
    request: "Request",
    counts: list[int],
    console: Console,
) -> dict[str, Any]:
    """Train, pay, write."""
    from primia_flwr.synthesis.adversarial import build_generator
    from primia_flwr.synthesis.folder import check_output, write_folder
    from primia_flwr.synthesis.release import pay_for

    paid = pay_for(account, images, request, cfg.privacy, _trainer(cfg, account, images, console))
    facts = {
        **_facts(cfg, account, paid.event, paid.units),
        "ledger": {
            "site": account.site, "run": request.run, "entry": paid.entry, "hash": paid.head
        },
    }  # fmt: skip
    net = build_generator(cfg.generator, classes=len(images.classes), size=cfg.data.image_size)
    target = check_output(cfg.output, root=cfg.data.root)
    written = write_folder(
        target, paid.state, net, images.classes, counts, seed=cfg.seed, facts=facts
    )
    train = _next(cfg, written.folder)
    _say(cfg, account, paid, written.images, train, console)
    return {
        "output": str(written.folder),
        "written": written.images,
        **facts["privacy"],
        "generator_sha256": written.sha256,
        "charged": not paid.again,
        "ledger": {"folder": str(account.folder), **facts["ledger"]},
        "images": dict(zip(images.classes, counts, strict=True)),
        "train": train,
        "ok": True,
    }


def _trainer(
    cfg: _SynthesiseConfig, account: "Account", images: "LabelledImages", console: Console
) -> Any:
    """Return what trains the generator with the noise of an event, under a progress bar."""
    from primia_flwr.synthesis.adversarial import train_generator
    from primia_flwr.training.device import pick_device

    def train(event: "SampledGaussian") -> Any:
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=cfg.quiet, transient=True) as progress:
            task = progress.add_task("noisy steps", total=event.steps)
            return train_generator(
                images,
                cfg.generator,
                event,
                unit=account.unit,
                clip_norm=cfg.privacy.clip_norm,
                seed=cfg.seed,
                device=pick_device(cfg.device, key="device"),
                on_step=lambda done: progress.update(task, completed=done),
            )

    return train


def _facts(
    cfg: _SynthesiseConfig, account: "Account", event: "SampledGaussian", units: int
) -> dict[str, Any]:
    """Return what the card says of privacy and of the settings."""
    return {
        "privacy": {
            "unit": account.unit,
            "epsilon": cfg.privacy.epsilon,
            "delta": account.delta,
            "noise_multiplier": event.noise_multiplier,
            "sampling_rate": event.sampling_rate,
            "steps": event.steps,
            "clip_norm": cfg.privacy.clip_norm,
            "units": units,
        },
        "settings": {"image_size": cfg.data.image_size, **asdict(cfg.generator)},
    }


def _say(
    cfg: _SynthesiseConfig,
    account: "Account",
    paid: "Paid",
    images: int,
    train: str,
    console: Console,
) -> None:
    cost = (
        "nothing was charged: the ledger had paid for this generator before"
        if paid.again
        else f"the ledger was charged, entry {paid.entry}"
    )
    for sentence in (
        f"{images} synthetic images in {cfg.output}; {_promise(cfg, account)}; {cost}",
        "they are not anonymous by nature: see docs/synthetic-images.md for what they still tell",
        f"train on them: {train}",
    ):
        console.print(sentence, markup=False, soft_wrap=True)


def _promise(cfg: _SynthesiseConfig, account: "Account") -> str:
    return f"epsilon {cfg.privacy.epsilon:g} at delta {account.delta:g} for each {account.unit}"


def _next(cfg: _SynthesiseConfig, folder: Path) -> str:
    root, size = shlex.quote(f"data.root={folder}"), cfg.data.image_size
    return f"primia train data=folder {root} data.image_size={size} data.channels=1"


COMMAND = Command(
    words=("synthesise",),
    summary=(
        "labelled synthetic images of this site's patients, from a generator that saw them through "
        "noise alone; the ledger is charged before anything is written, and the same command again "
        "costs nothing"
    ),
    examples=(
        "primia synthesise data.root=scans 'data.classes=[NORMAL,PNEUMONIA]' output=out "
        "dry_run=true",
        "primia synthesise data.root=scans 'data.classes=[NORMAL,PNEUMONIA]' privacy.epsilon=8 "
        "output=synthetic",
        "primia synthesise site=kit-munich/site.yaml privacy.epsilon=3 output=synthetic",
        "primia train data=folder data.root=synthetic data.image_size=32 data.channels=1",
    ),
    config_name="commands/data/synthesise",
    groups=True,
    schema=_SynthesiseConfig,
    run=_run,
    most_used=(
        "data",
        "data.root",
        "data.classes",
        "data.image_size",
        "output",
        "images",
        "counts",
        "site",
        "ledger",
        "privacy.unit",
        "privacy.epsilon",
        "privacy.delta",
        "privacy.ceiling",
        "privacy.steps",
        "privacy.expected_batch",
        "generator.discriminator_steps",
        "seed",
        "dry_run",
    ),
)
