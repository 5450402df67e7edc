"""What Flower's messages carry: configurations of a search, replies of sites, kept answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from clients.mods.search import _read
from clients.site.held_update import Held, HeldUpdate
from clients.site.kept import KeptRounds
from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.messages.held import held
from primia_flwr.messages.ledger_heads import read_heads
from primia_flwr.messages.packing import PACKED, pack, packed, unpack, unpacked
from primia_flwr.messages.refusals import failure_reason, refusal_reason
from primia_flwr.messages.sharing import (
    PLACES,
    VECTOR,
    own_form,
    own_part,
    own_whole,
    told_places,
    told_text,
)
from strategies.aggregators.reply_validator import clean, decode
from tests.fuzz.loaders.target import Made, put, target


@target("configuration of a round")
def searched(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        assert isinstance(_read(raw.decode("utf-8", "replace")), dict)

    return Made(load, [b'{"training.learning_rate": 0.1, "training.batch_size": 8}'])


@target("array of a reply")
def reply(folder: Path) -> Made:
    seed = Array(np.zeros((3, 2), np.float32)).data

    def load(raw: bytes) -> None:
        array = Array(dtype="float32", shape=(3, 2), stype="numpy.ndarray", data=raw)
        assert decode("w", array, (3, 2), np.dtype(np.float32)).shape == (3, 2)

    return Made(load, [seed])


@target("packed model")
def packed_model(folder: Path) -> Made:
    model = {"w": np.zeros((3, 2), np.float32), "b": np.ones(3, np.float32)}
    seed = pack(ArrayRecord({name: Array(values) for name, values in model.items()}))[PACKED].data

    def load(raw: bytes) -> None:
        whole = Array(dtype="uint8", shape=(len(raw),), stype="safetensors", data=raw)
        for array in unpack(ArrayRecord({PACKED: whole})).values():
            assert array.numpy().dtype.kind in "fiub"

    return Made(load, [seed])


def _packed_record(kind: str, record: ArrayRecord | ConfigRecord | MetricRecord) -> None:
    @target(f"packed {kind}")
    def made(folder: Path) -> Made:
        others = RecordDict({"one": record, "other": ConfigRecord({"x": 1})})
        small = dict(packed(others).config_records[PACKED])
        key = f"{kind}/one"

        def load(raw: bytes) -> None:
            found = unpacked(RecordDict({PACKED: ConfigRecord({**small, key: raw})}))
            assert set(found) == {"one", "other"}

        return Made(load, [bytes(small[key])])  # type: ignore[arg-type]


_packed_record("config", ConfigRecord({"round": 1, "mask": b"x", "rates": [0.5]}))
_packed_record("metrics", MetricRecord({"loss": 0.5, "counts": [1, 2]}))
_packed_record("arrays", ArrayRecord({"w": Array(np.zeros((3, 2), np.float32))}))
_packed_record(
    "raw", ArrayRecord({"n": Array(dtype="uint64", shape=(3,), stype="raw", data=bytes(24))})
)


@target("error of a reply")
def error(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        text = raw.decode("latin-1")
        assert clean(text).isprintable()
        failure_reason(text)
        refusal_reason(text)

    texts = [
        b"<class 'primia_flwr.errors.PolicyRefusal'>:<'x'>",
        b"primia_flwr.errors.DataError: x\n",
    ]
    return Made(load, texts)


@target("heads of a message")
def heads(folder: Path) -> Made:
    seed = b'[{"site": "a", "seq": 1, "hash": "00", "signature": "AA=="}]'
    return Made(lambda raw: read_heads(raw.decode("utf-8", "replace")), [seed])


@target("places of shared numbers")
def places(folder: Path) -> Made:
    sites = FederationConfig(sites=["a", "b", "c"])
    part = AggregationConfig(share=0.5, share_by="change")
    asked = Experiment(federation=sites, aggregation=part)

    def load(raw: bytes) -> None:
        config = ConfigRecord({PLACES: raw.decode("latin-1")})
        assert told_places(config, asked, 20).size <= 5

    return Made(load, [told_text(np.array([1, 19]), 20).encode()])


@target("a site's own choice of numbers")
def chosen(folder: Path) -> Made:
    seed = own_part(np.ones(20, np.float32), np.array([1, 19]))

    def load(raw: bytes) -> None:
        form = own_form(20, 2)
        (name,) = form.keys() - {VECTOR}
        data = Array(dtype="uint8", shape=(3,), stype="numpy.ndarray", data=raw)
        bits = decode(name, data, (3,), np.dtype(np.uint8))
        part = held({VECTOR: np.ones(2, np.float32), name: bits})
        assert own_whole(part, 20).sum() == 2

    return Made(load, [seed["bits"].data])


@target("update that a site holds")
def held_update(folder: Path) -> Made:
    held = HeldUpdate(folder)
    update = np.ones(3, np.float32)
    held.save(Held(1, b"m", "ab", 3, 2, {"weight": 1.0}, update))

    def load(raw: bytes) -> None:
        put(folder / "held.safetensors", raw)
        found = held.load()
        assert found is not None
        assert isinstance(found.metrics, dict)

    return Made(load, [(folder / "held.safetensors").read_bytes()])


@target("arrays that a site keeps")
def kept(folder: Path) -> Made:
    rounds = KeptRounds(folder, "unsent", run="a", keep=2)
    rounds.save(1, {"x": np.ones(3, np.float32)})
    (file,) = folder.glob("*.safetensors")

    def load(raw: bytes) -> None:
        put(file, raw)
        assert isinstance(rounds.load(1), dict)

    return Made(load, [file.read_bytes()])
