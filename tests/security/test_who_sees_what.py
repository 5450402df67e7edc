"""Who sees what in each topology, derived from the bytes that each party really received.

Whole runs in one process: what a site trained is noted at the site, what came to each party on its
way there. The table of `docs/threat-model.md` is what this finds.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import clients.handlers.train as train_handler
from clients.mods import dp_update
from primia_flwr.flower import roster_grid
from primia_flwr.messages.keys import ARRAYS
from primia_flwr.messages.packing import unpack
from strategies.rounds import participation
from tests.faults.skipped_time import SkippedTime
from tests.walks.federation import Federation, Site

DOC = Path(__file__).parents[2] / "docs/threat-model.md"
HEADING = "### Who sees what, by topology"
SHORT = (
    "federation.rounds=2", "federation.min_sites=3", "strategy.weighting=equal", "model.norm=group",
    "training.sync_every_n_batches=1", "training.optimizer=sgd", "training.momentum=0",
    "training.weight_decay=0", "training.learning_rate=0.1", "training.min_learning_rate=0.1",
    "training.schedule=constant", "training.warmup=0", "data.normalisation.kind=fixed",
)  # fmt: skip
PLAIN, SECURE, RELAY = "aggregation=plain", "aggregation=secure", "strategy=cyclic"
SEALED = (RELAY, "aggregation.sealed=true")
LATER = ("aggregation=asynchronous", "federation.rounds=4")
PRIVATE = (
    "privacy=dp_sgd", "privacy.epsilon=8", "privacy.delta=1e-3", "privacy.expected_batch=8",
)  # fmt: skip
TOPOLOGIES: dict[str, tuple[str, ...]] = {
    "averaging, secure": (SECURE,),
    "averaging, plain": (PLAIN,),
    "selective sharing, secure": (SECURE, "aggregation.share=0.5"),
    "selective sharing, each site's own choice": (
        *(PLAIN, "aggregation.share=0.5", "aggregation.share_by=own"),
    ),
    "SCAFFOLD, secure": ("strategy=scaffold", SECURE),
    "SCAFFOLD, plain": ("strategy=scaffold", PLAIN),
    "relay in the open": (RELAY,),
    "relay, sealed, `reveal=end`": SEALED,
    "relay, sealed, `reveal=never`": (*SEALED, "aggregation.reveal=never"),
    "ensemble": ("strategy=ensemble",),
    "ensemble, `vote=insulearn`": ("strategy=ensemble", "strategy.options.vote=insulearn"),
    "asynchronous, `buffer=1`": (*LATER, "aggregation.buffer=1"),
    "asynchronous, `buffer=2`": (*LATER, "aggregation.buffer=2"),
    "asynchronous, `buffer=2`, `privacy=dp_sgd`": (*LATER, "aggregation.buffer=2", *PRIVATE),
    "buffered": ("aggregation=buffered",),
    "averaging, secure, `privacy=dp_sgd`": (SECURE, *PRIVATE),
    "relay in the open, `privacy=dp_sgd`": (RELAY, *PRIVATE),
    "relay, sealed, `reveal=end`, `privacy=dp_sgd`": (*SEALED, *PRIVATE),
}
# Each has another's way of sending; they are looked at where there is time.
LIKE_OTHERS = (
    *("selective sharing, each site's own choice", "SCAFFOLD, plain", "ensemble"),
    *("asynchronous, `buffer=2`", "asynchronous, `buffer=2`, `privacy=dp_sgd`"),
    *("relay, sealed, `reveal=end`", "relay, sealed, `reveal=end`, `privacy=dp_sgd`"),
)
SLOW = pytest.mark.slow
ROUNDS, SITES = (1, 2), (1, 2, 3)
_SAMPLE = 1000
MOST, FEW = 0.9, 0.1  # of a model's numbers: with more it is seen, with fewer it is not
YES, PART, NO = "yes", "a part", "no"
BEFORE = "the one before it"
LAST_TOO = "the one before it, a cycle's last"
SUBTRACTED = "another's, by subtraction"
Numbers = npt.NDArray[np.float32]


@dataclass
class Seen:
    """A run as it was: what sites trained, and all bytes that came to each party.

    `trained`: the numbers of a site's model, by round and site. `begun`: the same of the model that
    the coordinator sent in the clear, by round; `got`, by round and site. `coordinator`: bytes that
    sites sent. `sites`: that came to each site, and what it opened of them.
    """

    trained: dict[tuple[int, int], Numbers] = field(default_factory=dict)
    begun: dict[int, Numbers] = field(default_factory=dict)
    got: dict[tuple[int, int], Numbers] = field(default_factory=dict)
    coordinator: bytearray = field(default_factory=bytearray)
    sites: dict[int, bytearray] = field(default_factory=lambda: {n: bytearray() for n in SITES})


class Ear(Site):
    """A site all of whose bytes are kept, on their way to it and from it."""

    seen: Seen

    def answer(self, message: Message) -> Message | None:
        self.seen.sites[self._index + 1] += _bytes_of(message.content)
        reply = super().answer(message)
        if reply is not None and reply.has_content():
            self.seen.coordinator += _bytes_of(reply.content)
        return reply


def _bytes_of(content: RecordDict) -> bytes:
    parts = [record_bytes(record) for record in content.array_records.values()]
    for config in (*content.config_records.values(), *content.metric_records.values()):
        for key, value in config.items():
            parts += [key.encode(), value if isinstance(value, bytes) else repr(value).encode()]
    return b"\0".join(parts)


def record_bytes(record: ArrayRecord) -> bytes:
    return b"\0".join(
        array.data if array.stype == "raw" else array.numpy().tobytes()
        for array in unpack(record).values()
    )


def run(folder: Path, words: Collection[str], patch: pytest.MonkeyPatch) -> Seen:
    """Run a topology in a folder; the images lie beside it."""
    images = f"data.cache_dir={folder.parent / 'images'}"
    federation, seen = Federation(folder, *SHORT, images, *words), Seen()
    for site in federation.sites:
        site.__class__, site.seen = Ear, seen  # type: ignore[attr-defined]
    arrived, train = train_handler.arrived_model, train_handler.train_round

    def arrives(site: Any, message: Message) -> Any:
        if site.experiment.aggregation.sealed:  # what it has opened
            seen.sites[int(site.name[-1])] += record_bytes(message.content[ARRAYS])
        model, normalisation = arrived(site, message)
        number = message.content["config"]["server-round"]
        seen.got[number, int(site.name[-1])] = _numbers(model.state_dict())
        if site.name == "site-1":
            seen.begun[number] = seen.got[number, 1]
        return model, normalisation

    def trains(site: Any, model: Any, recipe: Any, number: int, *args: Any, **named: Any) -> Any:
        result = train(site, model, recipe, number, *args, **named)
        seen.trained[number, int(site.name[-1])] = _numbers(result.state)
        return result

    def trains_privately(answer: Any) -> Any:
        state = noisy(answer)
        seen.trained[answer.number, int(answer.site.name[-1])] = _numbers(state)
        return state

    noisy = dp_update._NoisySteps.train
    patch.setattr(dp_update._NoisySteps, "train", trains_privately)
    patch.setattr(dp_update, "arrived_model", arrives)
    patch.setattr(train_handler, "arrived_model", arrives)
    patch.setattr(train_handler, "train_round", trains)
    federation.run()
    for number in SITES:  # what a site was given to keep
        for path in (federation.folder / f"sites/site-{number}/model").glob("*.safetensors"):
            seen.sites[number] += path.read_bytes()
    return seen


def _numbers(state: Any) -> Numbers:
    """All numbers of a model, in the order of its arrays."""
    return np.concatenate([v.detach().numpy().ravel() for v in state.values()])


# --- From bytes to words -------------------------------------------------------------------------


def parts_in(seen: Seen, told: bytes) -> dict[tuple[int, int], float]:
    """How much of what each site trained in each round is in bytes: of its model, or its update.

    Of a thousand numbers each. Those that a site shares with the model before, or with what another
    site trained, do not count.
    """
    models = {place: _own(seen, place) for place in seen.trained}
    wanted = {place: [_words(n) for n in numbers] for place, numbers in models.items()}
    found = _found([words for both in wanted.values() for words in both], told)
    return {
        place: max(len(found.intersection(words.tolist())) / words.size for words in both)
        for place, both in wanted.items()
    }


def _own(seen: Seen, place: tuple[int, int]) -> tuple[Numbers, Numbers]:
    model, before = seen.trained[place], seen.got[place]
    own = model != before
    for other, numbers in seen.trained.items():
        own &= (numbers != model) | (other == place)
    return model[own], (model - before)[own]


def _words(numbers: Numbers) -> npt.NDArray[np.uint32]:
    return np.unique(numbers[:: max(1, numbers.size // _SAMPLE)].view(np.uint32))


def _found(wanted: list[npt.NDArray[np.uint32]], told: bytes) -> set[int]:
    """Which words are in bytes, wherever they begin, among a few that only look like them."""
    low = np.zeros(1 << 22, np.bool_)  # a first look at 22 bits of a word, for speed
    for words in wanted:
        low[words & (low.size - 1)] = True
    found: set[int] = set()
    for start in range(4):
        words = np.frombuffer(told, np.uint32, (len(told) - start) // 4, start)
        found |= set(words[low[words & (low.size - 1)]].tolist())
    return found


def word(part: float) -> str:
    return YES if part > MOST else NO if part < FEW else PART


def single_model(seen: Seen) -> str:
    """Whether the coordinator got a single site's model."""
    parts = parts_in(seen, seen.coordinator)
    words = {place: word(part) for place, part in parts.items()}
    if len(set(words.values())) == 1:
        return words[1, 1]
    assert {place for place, found in words.items() if found != NO} == {(ROUNDS[-1], SITES[-1])}
    return "the last one"


def mean(seen: Seen, alone: str) -> str:
    """Whether the coordinator knows the mean of a round's models: sent, or of all that it has."""
    return alone if alone in (YES, PART) else word(mean_in(seen))


def mean_in(seen: Seen) -> float:
    """How many numbers of the model that round 2 begins with are the mean of what round 1 made."""
    if ROUNDS[1] not in seen.begun:
        return 0.0
    before, after = (seen.begun[number] for number in ROUNDS)
    whole = np.mean([seen.trained[1, site] for site in SITES], axis=0)
    moved = np.abs(whole - before) > 1e-4
    return float((np.abs(after - whole) < 1e-5)[moved].mean())


def measured(seen: Seen) -> str:
    """Whether the coordinator got losses of a single site."""
    return YES if b"train-loss" in seen.coordinator else NO


def neighbours(seen: Seen) -> str:
    """Whose models a site got, or opened."""
    pairs = set()
    for other in SITES:
        for (_, site), part in parts_in(seen, seen.sites[other]).items():
            if site != other and word(part) != NO:
                pairs.add((other, site))
    before = {(site % 3 + 1, site) for site in SITES}
    every = frozenset((a, b) for a in SITES for b in SITES if a != b)
    last_too = frozenset(before | {(2, 3)})
    if not pairs and any(subtracted(seen, site) for site in SITES):
        return SUBTRACTED
    words = {frozenset(): NO, frozenset(before): BEFORE, last_too: LAST_TOO, every: "all others'"}
    return words[frozenset(pairs)]


def subtracted(seen: Seen, site: int) -> bool:
    """Whether what lies between two models that a site got is one update of another, and its own.

    Up to a factor each, to a thousandth of its length.
    """
    got = [numbers for (_, who), numbers in sorted(seen.got.items()) if who == site]
    updates = {place: model - seen.got[place] for place, model in seen.trained.items()}
    own = [update for (_, who), update in updates.items() if who == site]
    others = [update for (_, who), update in updates.items() if who != site]
    return any(
        _left(after - before, [*own, other]) < 1e-3 < _left(after - before, own)
        for before, after in itertools.pairwise(got)
        for other in others
    )


def _left(change: Numbers, known: list[Numbers]) -> float:
    """Which part of a change, of its length, no sum of known ones explains."""
    table = np.stack(known, axis=1).astype(np.float64)
    best = np.linalg.lstsq(table, change.astype(np.float64), rcond=None)[0]
    return float(np.linalg.norm(change - table @ best) / max(np.linalg.norm(change), 1e-12))


def row_of(seen: Seen) -> tuple[str, ...]:
    alone = single_model(seen)
    return alone, mean(seen, alone), measured(seen), neighbours(seen), word(mean_in(seen))


def _hasten(patch: pytest.MonkeyPatch) -> None:
    """Nothing waits, and Flower's identity is there."""
    patch.setattr(os, "fsync", lambda handle: None)
    clock = SkippedTime()
    patch.setattr(participation, "time", clock)
    patch.setattr(roster_grid, "time", clock)
    for name in ("GRACE", "ASK_AGAIN"):
        patch.setattr(participation, name, 0.0)
    for key in ("_run_id", "_node_id", "_task_id"):
        patch.setattr(TaskIdentity, key, 1)


def _written() -> dict[str, tuple[str, ...]]:
    lines = DOC.read_text(encoding="utf-8").split(HEADING)[1].split("\n#")[0].splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {name: tuple(words) for name, *words in cells[2:]}


def test_the_table_has_a_row_for_each_topology() -> None:
    assert list(_written()) == list(TOPOLOGIES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seen")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW if name in LIKE_OTHERS else ()) for name in TOPOLOGIES]
)
def test_a_row_of_the_threat_model_is_what_the_bytes_say(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hasten(monkeypatch)
    place = folder / str(list(TOPOLOGIES).index(name))
    assert row_of(run(place, TOPOLOGIES[name], monkeypatch)) == _written()[name]
