"""`primia data deidentify`: copies of images in which nothing names a patient."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from primia_flwr.cli.command import Command
from primia_flwr.cli.data.listed import show_list
from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from primia_flwr.data.deidentification.folder import Outcome


@dataclass
class _DeidentifyConfig:
    """Arguments of `primia data deidentify`; `limit` bounds the names shown for each problem."""

    seed: int = 1
    quiet: bool = False
    limit: int = 10
    output_dir: str = ""
    burned_in: str = "flag"
    dry_run: bool = False
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)
        check_range("limit", self.limit, 0, 1_000_000, example=10)
        check_choice("burned_in", self.burned_in, ("flag", "leave_out"))


def _run(cfg: _DeidentifyConfig) -> dict[str, Any]:
    """Copy the images and write the record; the result's `ok` is false if some were left out."""
    from primia_flwr.data.deidentification.folder import check_target, deidentify
    from primia_flwr.data.deidentification.record import summary, write_record
    from primia_flwr.data.pseudonyms import open_pseudonyms, private_folder

    if cfg.data.layout == "synthetic":
        raise ConfigError(
            "data.layout=synthetic; expected images of patients, e.g. data.root=scans"
        )
    target = check_target(cfg.data.root, cfg.output_dir)
    private = private_folder(cfg.data.cache_dir)
    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    with _bar(console, quiet=cfg.quiet) as progress:
        task = progress.add_task("de-identifying", total=None)
        outcome = deidentify(
            cfg.data,
            cfg.output_dir,
            open_pseudonyms(private),
            seed=cfg.seed,
            burned_in=cfg.burned_in,
            dry_run=cfg.dry_run,
            tell=lambda done, of: progress.update(task, completed=done, total=of),
        )
    record = None if cfg.dry_run else write_record(private, str(target), outcome)
    counts = summary(outcome)
    _show(cfg, outcome, counts, console)
    return {
        "output_dir": None if cfg.dry_run else str(target),
        "record": str(record) if record else None,
        **{**counts, "removed": len(counts["removed"])},
        "ok": counts["left_out"] == 0,
    }


def _bar(console: Console, *, quiet: bool) -> Progress:
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=quiet, transient=True)


def _show(
    cfg: _DeidentifyConfig, outcome: "Outcome", counts: dict[str, Any], console: Console
) -> None:
    from primia_flwr.data.deidentification.record import problems

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, soft_wrap=True)

    verb = "would be copied" if cfg.dry_run else "copied"
    masks = f" with {counts['masks']} masks" if counts["masks"] else ""
    say(
        f"{counts['images']} images{masks} of {counts['patients']} patients {verb}; "
        f"{len(counts['removed'])} kinds of metadata removed"
    )
    if not (cfg.data.classes or cfg.data.manifest):
        say(
            "the names of all folders are pseudonyms now, since nothing tells a class from a "
            "patient; with data.classes=[...] the folders of classes keep theirs"
        )
    if TASKS[cfg.data.task].several:
        say("manifest.csv of the copies has their findings: data=manifest reads it")
    if counts["patient_unknown"]:
        say(f"nobody knows whose {counts['patient_unknown']} image(s) are")
    show_list(
        console, "left out", [f"{n}: {why}" for n, why in problems(outcome).items()], cfg.limit
    )
    lines = [f"{path}: {why}" for path, why in outcome.burned_in.items()]
    show_list(console, "look for text in their pixels", lines, cfg.limit)
    if counts["burned_in_unchecked"]:
        say(
            f"no pixel was searched for burned-in text; {counts['burned_in_unchecked']} image(s) "
            "have no header that denies it: look at them before they leave"
        )
    if counts["no_images"]:
        say(f"files that are no images stay behind: {counts['no_images']}")


COMMAND = Command(
    words=("data", "deidentify"),
    summary="copy images without headers, metadata and names that tell of a patient",
    examples=(
        "primia data deidentify data.root=scans output_dir=shared dry_run=true",
        "primia data deidentify data.root=scans output_dir=shared data.classes=[NORMAL,PNEUMONIA]",
        "primia data deidentify data.manifest=site.csv data.root=/images output_dir=shared",
        "primia data deidentify data.root=scans output_dir=shared burned_in=leave_out",
        "primia data deidentify data=paired data.task=segmentation data.root=scans "
        "'data.classes=[background,lesion]' output_dir=shared",
    ),
    config_name="commands/data/deidentify",
    groups=True,
    schema=_DeidentifyConfig,
    run=_run,
)
