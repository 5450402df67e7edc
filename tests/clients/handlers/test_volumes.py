"""A site counts its volumes where it has enough of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from clients.handlers.statistics import answer_statistics
from clients.site.opened import SiteContext, open_site
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, to_yaml
from primia_flwr.data.fingerprint.sums import Counts
from primia_flwr.errors import DataError
from primia_flwr.messages import keys
from tests.data.layouts.test_msd import decathlon


def of_three_sites(folder: Path, *words: str) -> Context:
    decathlon(folder, cases=9)
    given = (
        "task=segmentation", "model=unet_small", "data=msd", f"data.root={folder}/in",
        "data.image_size=16", "data.test_fraction=0",
        f"data.cache_dir={folder}/cache", f"output_dir={folder}/run", *words,
    )  # fmt: skip
    text = to_yaml(parse(Experiment, compose("config", given)))
    node: dict[str, object] = {"partition-id": 0, "num-partitions": 3}
    return Context(1, 2, node, RecordDict(), {"config": text})  # type: ignore[arg-type]


def asked() -> Message:
    return Message(RecordDict(), 2, "query.statistics")


def test_enough_volumes_are_counted_and_fewer_are_not(tmp_path: Path) -> None:
    context = of_three_sites(tmp_path, "data.volumes.fingerprint=true")
    site = open_site(context)
    cases = len({Path(file).parts[1] for file in site.data.train.files})
    enough = SiteContext(context, replace(site, min_volumes=cases))
    metrics = answer_statistics(asked(), enough).content.metric_records[keys.METRICS]
    counted = metrics["volume_counts"]
    assert isinstance(counted, list)
    assert Counts.read(counted).cases == cases
    fewer = SiteContext(context, replace(site, min_volumes=cases + 1))
    with pytest.raises(
        DataError, match=rf"{cases} training .* least {cases + 1}, the policy's min"
    ):
        answer_statistics(asked(), fewer)


def test_nothing_is_counted_that_is_not_asked_for(tmp_path: Path) -> None:
    context = of_three_sites(tmp_path)
    site = SiteContext(context, replace(open_site(context), min_volumes=1000))
    metrics = answer_statistics(asked(), site).content.metric_records[keys.METRICS]
    assert "volume_counts" not in metrics
