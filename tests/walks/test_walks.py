"""The four walks of docs/architecture.md: run under a tracer, compared with what the page says."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from flwr.supercore.task_identity import TaskIdentity

from clients.client_app import app
from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.experiment.training import ModelConfig, TrainingConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.data.dataset import load_site
from primia_flwr.models import build_model
from primia_flwr.site.bundle.contents import inspect as inspect_bundle
from primia_flwr.storage.printable import printable
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
    tables = re.findall(r"\| step \| file \|\n\| --- \| --- \|\n((?:\|.*\n)+)", f"{section}\n")
    return [[file_in(row) for row in table.splitlines()] for table in tables]


def file_in(row: str) -> str:
    """Return the one file that a row names."""
    found = re.fullmatch(r"\| .+ \| `([\w/]+\.py)` \|", row)
    assert found, row
    return found[1]


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
    sites = train_securely(tmp_path, walked=True)
    way, asked, at_coordinator = steps_of("An update through secure aggregation")
    mods = [inspect.getsourcefile(mod) or "" for mod in app._mods]
    own = [str(Path(file).relative_to(ROOT)) for file in mods]
    assert way == [*own, "clients/client_app.py", "clients/handlers/train.py"]
    walk = sites[0].walk
    assert [one for one in walk.crossings if one[1] in way] == once_each(way)
    rooms = ["clients/mods", "clients/handlers"]
    assert [one for one in by_room(walk.crossings) if one[1] in rooms] == once_each(rooms)
    follows(asked, walk)
    follows(at_coordinator, coordinator[0])


def once_each(way: list[str]) -> list[tuple[str, str]]:
    """Return the crossings of what is entered once each, each within the one before."""
    return [*(("in", name) for name in way), *(("out", name) for name in reversed(way))]


def by_room(crossings: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return where a room is entered from outside, and left."""
    found, depths = [], Counter[str]()
    for way, name in crossings:
        room = str(Path(name).parent)
        before = depths[room]
        depths[room] += 1 if way == "in" else -1
        if not before or not depths[room]:
            found.append((way, room))
    return found


def test_a_second_crossing_is_seen() -> None:
    with traced() as walk:
        printable("a", limit=1)
        printable("b", limit=1)
    file = "primia_flwr/storage/printable.py"
    assert walk == [file]
    assert walk.crossings == [("in", file), ("out", file)] * 2
    assert (
        by_room(walk.crossings)
        == [("in", "primia_flwr/storage"), ("out", "primia_flwr/storage")] * 2
    )


def test_a_row_with_two_files_is_refused() -> None:
    with pytest.raises(AssertionError):
        file_in("| step | `clients/mods/leaving.py`, `clients/leaving.py` |")


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
        assert inspect_bundle(lab.bundle.content).sha256 == lab.bundle.sha256
        lab.judge(lab.sites[0], text, "train")
    (steps,) = steps_of("A bundle through the gate")
    follows(steps, walk)
