"""The four walks of docs/architecture.md: run under a tracer, compared with what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from flwr.supercore.task_identity import TaskIdentity

from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.data.dataset import load_site
from primia_flwr.models import build_model
from primia_flwr.site.bundle.contents import inspect
from primia_flwr.training.fit import fit
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.plan import plan_round
from primia_flwr.training.recipe import Recipe
from strategies.aggregators.secure.aggregator import SecureAggregator
from tests.inference.protocol.test_session import SIZE, Parties
from tests.security.lab import Lab
from tests.walks.federation import train_securely
from tests.walks.tracer import ROOT, traced

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def steps_of(title: str) -> list[list[str]]:
    """Return the files of each table below a heading of the page."""
    section = PAGE.partition(f"### {title}\n")[2].partition("\n### ")[0]
    tables = re.split(r"\n\n(?=\| step)", f"\n{section}")[1:]
    return [re.findall(r"\| `([^`]+\.py)` \|", table) for table in tables]


def follows(steps: list[str], walk: list[str]) -> None:
    """Insist that the steps are entered in their order."""
    assert [name for name in walk if name in steps] == steps
    assert len(steps) == len(set(steps)) >= 5


def test_the_page_names_files_that_exist() -> None:
    named = re.findall(r"`((?:primia_flwr|clients|strategies)/[\w/]+\.py)`", PAGE)
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_an_image_through_training(tmp_path: Path) -> None:
    cfg = DataConfig(
        image_size=32,
        cache_dir=str(tmp_path),
        synthetic=SyntheticConfig(patients=30),
        workers=1,
    )
    training = TrainingConfig(batch_size=8)
    with traced() as walk:
        site = load_site(cfg, seed=1, site_index=0, num_sites=2)
        model = build_model(ModelConfig(name="simpleconv"), outputs=3, channels=1, seed=1)
        plan = plan_round(training, num_examples=len(site.train), round_number=1, num_rounds=1)
        numbers = Normalisation((0.5,), (0.25,))
        recipe = Recipe(training, numbers, seed=1, augmentation=cfg.augmentation)
        fit(model, site.train, site.val, recipe, plan)
    (steps,) = steps_of("An image through training")
    follows(steps, walk)


def test_an_update_through_secure_aggregation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    real, coordinator = SecureAggregator.train, []

    def train(self, *arguments):
        with traced() as walk:
            outcome = real(self, *arguments)
        coordinator.append(walk)
        return outcome

    monkeypatch.setattr(SecureAggregator, "train", train)
    sites = train_securely(tmp_path)
    at_site, at_coordinator = steps_of("An update through secure aggregation")
    follows(at_site, sites[0].walk)
    follows(at_coordinator, coordinator[0])


def test_a_query_through_encrypted_inference(tmp_path: Path) -> None:
    running = Parties(tmp_path).running()
    with running as parties, traced() as walk, parties.session(1) as session:
        session.classify(torch.rand(1, 1, SIZE, SIZE))
    (steps,) = steps_of("A query through encrypted inference")
    follows(steps, walk)


def test_a_bundle_through_the_gate(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.reset({})
    text = to_yaml(lab.experiment())
    with traced() as walk:
        assert inspect(lab.bundle.content).sha256 == lab.bundle.sha256
        lab.judge(lab.sites[0], text, "train")
    (steps,) = steps_of("A bundle through the gate")
    follows(steps, walk)
