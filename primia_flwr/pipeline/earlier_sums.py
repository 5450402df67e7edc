"""A run that begins with the model of an earlier one, whose sums were over other sites.

The sites refuse it: the difference of two sums from one model shows the site that came or left.
They may not say why. So the coordinator, who knows both lists, says it before anybody is asked.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import ConfigError, FederationError, PrimiaError
from primia_flwr.runs.secure_sums import TRAIN, read_sums
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import parse_json, read_text, reading

_KNOWN, _MOST = "first-models.json", 1000


def check_earlier_sums(experiment: Experiment, run_dir: Path, model: str) -> None:
    """Refuse a first model of which other sites' sum was learned; remember this one.

    Parameters
    ----------
    experiment : Experiment
        Anything but a secure run at real sites passes, as does one that is resumed.
    run_dir : Path
        Its output folder, in which its sums will stand.
    model : str
        SHA-256 of the first model's arrays.

    Raises
    ------
    ConfigError
        If there was such a run; another seed makes another model.
    FederationError
        If what is remembered cannot be read.
    """
    deployment, aggregation = experiment.deployment, experiment.aggregation
    free = aggregation.allow_other_survivors or aggregation.member_lists_since
    if deployment.kind != "deployment" or not aggregation.secure or free or experiment.resume:
        return
    file = Path(deployment.roster).parent / _KNOWN
    known = _read(file)
    sites = set(experiment.federation.sites)
    for run in (run for digest, run in known if digest == model and run != str(run_dir)):
        for summed in _first_sums(Path(run)):
            if summed != sites:
                raise ConfigError(
                    f"seed={experiment.seed} begins with the model of {run}, of which the sum over "
                    f"{', '.join(sorted(summed))} is known; the sites give none over "
                    f"{', '.join(sorted(sites))}, because the difference shows single sites; "
                    f"start with another seed, e.g. seed={experiment.seed + 1}"
                )
    if [model, str(run_dir)] not in known:
        text = json.dumps([*known, [model, str(run_dir)]][-_MOST:], indent=0) + "\n"
        write_atomic(file, text, mode=PRIVATE)


def _read(file: Path) -> list[list[str]]:
    if not file.exists():
        return []
    expected = "what earlier runs wrote there; delete it, and use seeds that are new"
    with reading(file, error=FederationError, expected=expected):
        content: Any = parse_json(read_text(file))
        if not all([type(part) for part in entry] == [str, str] for entry in content):
            raise TypeError("an entry is of another type")
        return [list(entry) for entry in content]


def _first_sums(run_dir: Path) -> Iterator[set[str]]:
    """Yield the sites of each sum of a run's first round of training, if they still stand there."""
    try:
        rows = read_sums(run_dir)
    except PrimiaError:
        return
    for row in rows:
        if row.kind == TRAIN and row.round == 1 and row.good:
            yield set(row.summed)
