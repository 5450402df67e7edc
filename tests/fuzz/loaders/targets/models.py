"""Trained models, first weights, and a site's state between rounds."""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

from clients.site.state import RoundState, SiteState
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.card import ModelCard
from primia_flwr.models.provenance import FILE, Provenance, read_added
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import load_model, save_model
from primia_flwr.models.weights import read_state
from primia_flwr.models.weights_card import check_start
from primia_flwr.pipeline.baselines import handed
from primia_flwr.pipeline.baselines.one import Trained
from tests.fuzz.loaders.target import Made, put, target

CARD = ModelCard(
    ModelConfig(name="simpleconv", norm="group"), ("a", "b"), 1, 16, "pad", (0.4,), (0.2,),
    "0" * 16, 1, True,
)  # fmt: skip

PRIVATE = PrivacyConfig(mode="dp_sgd", epsilon=8.0)
SPENT = Provenance(epsilon=3.0, delta=1e-5, drawn=False)


def _saved(folder: Path) -> None:
    model = build_model(CARD.model, outputs=2, channels=1, seed=1)
    save_model(folder, model, CARD)


@target("model card")
def model_card(folder: Path) -> Made:
    _saved(folder)
    file = folder / "model.json"

    def load(raw: bytes) -> None:
        model, card = load_model(put(file, raw).parent)
        with torch.no_grad():
            model(torch.zeros(1, card.channels, 16, 16))

    return Made(load, [file.read_bytes()])


@target("model weights")
def model_weights(folder: Path) -> Made:
    _saved(folder)
    file, card = folder / "model.safetensors", folder / "model.json"
    described = json.loads(card.read_bytes())

    def load(raw: bytes) -> None:
        put(file, raw)
        described["sha256"] = hashlib.sha256(raw).hexdigest()
        put(card, json.dumps(described).encode())
        load_model(folder)

    return Made(load, [file.read_bytes()])


@target("provenance of weights")
def provenance_of_weights(folder: Path) -> Made:
    model = build_model(CARD.model, outputs=2, channels=1, seed=1)
    save_model(folder, model, replace(CARD, provenance=SPENT))
    card, weights = folder / "model.json", str(folder / "model.safetensors")

    def load(raw: bytes) -> None:
        put(card, raw)
        found = check_start(weights, PRIVATE, synthetic=True)
        assert 0 <= found.epsilon < math.inf

    return Made(load, [card.read_bytes()])


@target("what first weights add")
def first_weights_add(folder: Path) -> Made:
    seed = json.dumps({"source": "none", "added": SPENT.to_dict()}).encode()
    return Made(lambda raw: read_added(put(folder / FILE, raw).parent), [seed])


STATE = {"w": torch.zeros(2, 3), "b": torch.arange(4)}


@target("first weights safetensors")
def first_safetensors(folder: Path) -> Made:
    return Made(lambda raw: read_state(put(folder / "w.safetensors", raw)), [save_tensors(STATE)])


@target("first weights pth")
def first_pth(folder: Path) -> Made:
    stream, old = io.BytesIO(), io.BytesIO()
    torch.save(STATE, stream)
    torch.save(STATE, old, _use_new_zipfile_serialization=False)
    seeds = [stream.getvalue(), old.getvalue()]
    return Made(lambda raw: read_state(put(folder / "w.pth", raw)), seeds)


@target("state of a site")
def site_state(folder: Path) -> Made:
    state = SiteState(folder, "abc", keep=2)
    state.save(1, RoundState(dict(STATE), {"best": 0.5, "rounds": 3}))
    file = next((folder / "abc").glob("*.safetensors"))

    def load(raw: bytes) -> None:
        put(file, raw)
        found = state.load(1)
        assert isinstance(found.stopping, dict)

    return Made(load, [file.read_bytes()])


def _handed(folder: Path, ending: str) -> Made:
    trained = Trained({"w": torch.tensor([1.5])}, 2, (0.25,), (0.5,), ("a", "b"))
    handed.hand_over(folder, "centralised", trained)
    file = folder / f"centralised.{ending}"
    return Made(lambda raw: handed.taken(put(file, raw).parent, "centralised"), [file.read_bytes()])


@target("weights of a baseline that another process trained")
def handed_weights(folder: Path) -> Made:
    return _handed(folder, "safetensors")


@target("facts of a baseline that another process trained")
def handed_facts(folder: Path) -> Made:
    return _handed(folder, "json")
