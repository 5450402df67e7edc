"""The fingerprint of real hospitals: TLS, gates, each with its own folder of volumes and policy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.data.dataset import load_own_site
from primia_flwr.data.fingerprint.facts import fingerprint
from primia_flwr.data.fingerprint.sums import Counts
from primia_flwr.data.layouts.msd import volume_counts
from primia_flwr.errors import PrimiaError
from primia_flwr.flower.bundle import stage_bundle
from primia_flwr.pipeline.experiment import run_experiment
from primia_flwr.site.log import SiteLog
from primia_flwr.trials.loopback import LoopbackFederation, LoopbackSite
from tests.data.layouts.test_msd import decathlon

pytestmark = pytest.mark.timeout(600)
SITES = ("munich", "paris", "london")
LEVELS = (0.0, 4095.0)
POLICY = {
    "data_layout": "msd",
    "data_task": "segmentation",
    "allow_fingerprint": True,
    "min_fingerprint_volumes": 4,
}


def _experiment(folder: Path) -> Experiment:
    words = (
        "task=segmentation", "model=unet_small", "data=msd", "data.image_size=16",
        "data.classes=[background,liver,tumour]", "data.volumes.fingerprint=true",
        "data.volumes.levels=[0,4095]", f"federation.sites=[{','.join(SITES)}]",
        "federation.min_sites=3", "federation.rounds=1", "federation.round_timeout=60",
        "baselines=[]", "tracking=disabled", "report.saliency=0", "training.threads=1",
        f"data.cache_dir={folder}/cache", f"output_dir={folder}/run",
    )  # fmt: skip
    return parse(Experiment, compose("config", words))


def _federation(folder: Path, cases: dict[str, int]) -> LoopbackFederation:
    fab = folder / "primia-flwr.fab"
    fab.write_bytes(stage_bundle(folder / "app").content)
    sites = [LoopbackSite(name, folder / name / "in", policy=POLICY) for name in SITES]
    for number, (name, count) in enumerate(cases.items()):
        decathlon(folder / name, cases=count, first=10 * number)
    return LoopbackFederation(folder / "trial", sites, bundle=fab, min_sites=3)


def _run(experiment: Experiment, folder: Path, federation: LoopbackFederation) -> None:
    deployment = DeploymentConfig(
        name="loopback",
        kind="deployment",
        superlink=federation.superlink.address,
        root_certificates=str(federation.root_certificates.resolve()),
        roster=str(federation.federation.roster_file.resolve()),
    )
    (folder / "run").mkdir()
    run_experiment(replace(experiment, deployment=deployment), folder / "run")


@pytest.mark.system
def test_hospitals_have_the_fingerprint_of_their_volumes_in_one_place(tmp_path: Path) -> None:
    experiment = _experiment(tmp_path)
    with _federation(tmp_path, {"munich": 6, "paris": 7, "london": 9}) as federation:
        _run(experiment, tmp_path, federation)
    vectors = []
    for name in SITES:
        cfg = replace(
            experiment.data, root=str(tmp_path / name / "in"), cache_dir=str(tmp_path / "cache")
        )
        own = load_own_site(cfg, seed=experiment.seed, name=name)
        vectors.append(volume_counts(cfg, own.train.files)[0].vector())
    pooled = Counts.read(np.sum(vectors, axis=0).tolist())
    assert pooled.cases >= 12
    written = (tmp_path / "run/fingerprint.json").read_text()
    expected = fingerprint(pooled, experiment.data.classes, LEVELS)
    assert written == json.dumps(expected, indent=1) + "\n"


@pytest.mark.slow
def test_a_hospital_with_few_volumes_does_not_answer(tmp_path: Path) -> None:
    experiment = _experiment(tmp_path)
    with _federation(tmp_path, {"munich": 6, "paris": 7, "london": 4}) as federation:
        with pytest.raises(PrimiaError):
            _run(experiment, tmp_path, federation)
        log = SiteLog(federation.sites["london"].policy_file.parent / "state/site-log.jsonl")
        reasons = [str(e.details.get("reason")) for e in log.entries() if e.event == "failed"]
    assert any("the policy's min_fingerprint_volumes" in reason for reason in reasons)
    assert not (tmp_path / "run/fingerprint.json").exists()
