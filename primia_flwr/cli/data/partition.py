"""`primia data partition`: write one manifest per site, without copying an image."""

import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from primia_flwr.cli.command import Command
from primia_flwr.config.checks import check_range
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.printable import printable

if TYPE_CHECKING:
    from primia_flwr.data.manifest import Manifest


@dataclass
class _DataPartitionConfig:
    """Arguments of `primia data partition`; `site_names` replaces site-1, site-2 and so on.

    `pseudonyms` replaces the names of patients, by the key of this computer's private folder.
    """

    seed: int = 1
    quiet: bool = False
    sites: int = 3
    site_names: list[str] = field(default_factory=list)
    output: str = "partition"
    pseudonyms: bool = True
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**32 - 1, example=1)
        check_range("sites", self.sites, 1, 10_000, example=3)
        if not self.output:
            raise ConfigError("output is empty; expected a folder, e.g. output=partition")
        for name in self.site_names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name == "test":
                raise ConfigError(
                    f"site_names={name}; expected letters, digits, '.', '_' or '-', not 'test'"
                )


def _run(cfg: _DataPartitionConfig) -> dict[str, Any]:
    """Write `<output>/<site>.csv` for each site and `test.csv`, and print the counts.

    The sites get the images that a simulation with the same data, seed and number of sites gives
    them. A site splits off its validation images by the names of patients: it chooses the same
    as in the simulation with `pseudonyms=false` alone.
    """
    from primia_flwr.data.dataset import hold_out_test, named_sites  # heavy
    from primia_flwr.data.files.store import open_store
    from primia_flwr.data.pictures import pictures_of
    from primia_flwr.data.reading.any_layout import read_manifest

    _check_output(Path(cfg.output))
    whole = read_manifest(cfg.data, seed=cfg.seed)
    store = open_store(whole, cfg.data)  # decoded as a run will want them, once
    whole = replace(whole, digests=pictures_of(store))
    develop, test = hold_out_test(cfg.data, whole, cfg.seed)
    sites = named_sites(
        develop, cfg.data, seed=cfg.seed, num_sites=cfg.sites, site_names=cfg.site_names
    )
    parts = {name: _labelled(site, site=name) for name, site in sites.items()}
    if test is not None:
        parts["test"] = _labelled(test, split="test")
    if cfg.pseudonyms:
        parts = {name: _pseudonymous(part, cfg.data.cache_dir) for name, part in parts.items()}
    files = _write(parts, Path(cfg.output))
    console = Console(file=sys.stderr if cfg.quiet else sys.stdout, emoji=False)
    for note in whole.notes:
        console.print(f"[yellow]data:[/] {escape(printable(note, limit=2000))}", soft_wrap=True)
    console.print(_table(parts))
    console.print(f"read a manifest with {escape(_words(whole, cfg.data))}", soft_wrap=True)
    return _result(whole, parts, files)


def _words(whole: "Manifest", cfg: DataConfig) -> str:
    """Return the words with which a command reads the manifests."""
    names = [f"data.classes={list(whole.classes)}"]
    names += [f"data.mask_values={list(whole.mask_values)}"] if whole.mask_values else []
    names += [f"data.task={cfg.task}"] if cfg.task != "classification" else []
    root = f"data.layout=manifest data.root={whole.root}"
    return " ".join((root, *names, "data.manifest=<file>"))


def _check_output(folder: Path) -> None:
    """Refuse a folder of other tables: with those of another deal, patients would be twice."""
    try:
        found = sorted(path.name for path in folder.expanduser().glob("*.csv"))
    except OSError:
        found = []  # writing says why
    if found:
        raise ConfigError(
            f"output={folder}: holds {printable(found[0], limit=80)}; expected a new folder, since "
            "tables of two deals share patients: give another one, or remove it"
        )


def _labelled(manifest: "Manifest", *, site: str = "", split: str = "") -> "Manifest":
    return manifest.with_samples(
        [replace(sample, site=site, split=split) for sample in manifest.samples]
    )


def _pseudonymous(manifest: "Manifest", cache_dir: str) -> "Manifest":
    """Name patients by pseudonyms; a placeholder, which names nobody, stays."""
    from primia_flwr.data.pseudonyms import private_folder, told_patients  # heavy

    names, private = [sample.patient for sample in manifest.samples], private_folder(cache_dir)
    told = told_patients(names, synthetic=manifest.synthetic, private=private)
    return manifest.with_samples(
        [
            replace(sample, patient=pseudonym or sample.patient)
            for sample, pseudonym in zip(manifest.samples, told, strict=True)
        ]
    )


def _write(parts: "dict[str, Manifest]", folder: Path) -> dict[str, str]:
    files = {name: folder / f"{name}.csv" for name in parts}
    try:
        for name, path in files.items():
            parts[name].write_csv(path)
    except OSError as error:
        raise DataError(
            f"output={folder}: cannot be written ({error.strerror}); expected a writable folder"
        ) from error
    return {name: str(path) for name, path in files.items()}


def _table(parts: "dict[str, Manifest]") -> Table:
    classes = next(iter(parts.values())).strata
    table = Table("site", "images", "patients", *(escape(name) for name in classes))
    for name, part in parts.items():
        counts = [str(count) for count in part.label_counts()]
        table.add_row(escape(name), str(len(part)), str(len(part.patients())), *counts)
    return table


def _result(
    whole: "Manifest", parts: "dict[str, Manifest]", files: dict[str, str]
) -> dict[str, Any]:
    counts = {
        name: {
            "images": len(part),
            "patients": len(part.patients()),
            "classes": dict(zip(part.strata, (int(n) for n in part.label_counts()), strict=True)),
        }
        for name, part in parts.items()
    }
    return {
        "root": str(whole.root),
        "classes": list(whole.classes),
        "synthetic": whole.synthetic,
        "warnings": list(whole.notes),
        "files": files,
        "parts": counts,
    }


COMMAND = Command(
    words=("data", "partition"),
    summary="deal patients to sites and write one CSV manifest per site; images stay in place",
    examples=(
        "primia data partition data.root=chest_xray/train sites=3",
        "primia data partition data.root=scans data.partition.kind=quantity sites=5",
        "primia data partition data.root=scans site_names=[munich,paris,london] output=manifests",
    ),
    config_name="commands/data/partition",
    groups=True,
    schema=_DataPartitionConfig,
    run=_run,
)
