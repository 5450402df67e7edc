"""What a private reply holds is a closed set, and but for noise it says nothing of one unit.

One unit's images are others in the neighbour, or one unit is missing there altogether: then the
number of units, which is public, is the only difference.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from clients.mods import dp_statistics as private_statistics
from clients.mods import dp_update as private
from clients.mods.secagg_vectors import report_vectors, statistics_vectors
from clients.site.identity import open_member
from clients.site.progress import progress_writer
from primia_flwr.data.dataset import LabelledImages, SiteData
from primia_flwr.messages import keys
from primia_flwr.training.round import Progress
from tests.clients.answering import answer_statistics, answer_train
from tests.clients.handlers.test_answers import asked, simulated, train_message
from tests.clients.mods.test_dp import text_of

NOISY = ("privacy.statistics_noise=6", "data.normalisation.kind=federated")
SHARED = ("privacy.steps=1", "privacy.sampling_rate=0.3")
KINDS = ("dp_sgd", "dp_aggregate", "dp_sgd_shared", "statistics")
ENTRIES = {
    keys.METRICS: {keys.WEIGHT},
    keys.SITE: {keys.SITE_NAME, keys.OUTPUTS},
    keys.LEDGER: {keys.HEADS},
}
STATISTICS = {
    "count", "total", "total_squares", "label_counts", "side_counts", keys.NUM_VAL,
}  # fmt: skip
NOISED = {"total", "total_squares", "label_counts"}


def changed(images: LabelledImages, patient: str) -> LabelledImages:
    """Other images and findings of one patient; as many as before."""
    rows = [row for row, name in enumerate(images.patients) if name == patient]
    pixels, labels = images.images.clone(), images.labels.clone()
    pixels[rows] = 255 - pixels[rows]
    labels[rows] = (labels[rows] + 1) % len(images.classes)
    digests = tuple(
        hashlib.sha256(b"other %d" % row).hexdigest() if row in rows else digest
        for row, digest in enumerate(images.digests)
    )
    return replace(images, images=pixels, labels=labels, digests=digests)


def without(images: LabelledImages, patient: str) -> LabelledImages:
    """Return the images but for one patient's."""
    return images.select([r for r, name in enumerate(images.patients) if name != patient])


def doubled(images: LabelledImages, patient: str) -> LabelledImages:
    """More images of one patient, with other files."""
    own = images.select([r for r, name in enumerate(images.patients) if name == patient])
    digests = tuple(hashlib.sha256(digest.encode()).hexdigest() for digest in own.digests)
    files = tuple(f"more/{file}" for file in own.files)
    return images.joined(replace(own, digests=digests, files=files))


NEIGHBOURS = {"changed": changed, "without": without, "doubled": doubled}


@pytest.fixture
def in_place_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the site other images."""

    def patch(text: str, change: Any) -> None:
        site = private.open_site(simulated(text))
        patient = sorted(site.data.train.patients)[0]
        data = SiteData(site.data.name, change(site.data.train, patient), site.data.val)
        for module in (private, private_statistics):
            monkeypatch.setattr(module, "open_site", lambda _: replace(site, data=data))

    return patch


def reply_of(kind: str, text: str) -> Message:
    if kind == "statistics":
        ask = asked("query.statistics", RecordDict({keys.CONFIG: ConfigRecord()}))
        return answer_statistics(ask, simulated(text))
    return answer_train(train_message(text), simulated(text))


def text_for(kind: str, folder: Path) -> str:
    if kind == "statistics":
        return text_of(folder, *NOISY)
    return text_of(folder, *(SHARED if kind == "dp_sgd_shared" else ()), mode=kind)


def known(kind: str, text: str, reply: Message) -> dict[str, Any]:
    """Everything of a reply that is not noised: names, shapes, types, and the other numbers."""
    content = reply.content
    metrics = dict(content[keys.METRICS])
    heads = json.loads(str(content[keys.LEDGER][keys.HEADS]))
    for head in heads:
        assert set(head) == {"site", "answers", "hash", "signature"}
        del head["hash"], head["signature"]  # of random bytes
    found: dict[str, Any] = {
        "records": {name: sorted(record) for name, record in content.items()},
        "metrics": {n: v for n, v in metrics.items() if n not in NOISED},
        "lengths": {n: len(v) for n, v in metrics.items() if n in NOISED},
        "site": dict(content[keys.SITE]),
        "heads": heads,
    }
    member = open_member(simulated(text))
    if kind == "statistics":
        layout, vectors = statistics_vectors(member, reply)
    else:
        layout, vectors = report_vectors(member, train_message(text), reply)
        found["arrays"] = {n: (a.shape, a.dtype) for n, a in content[keys.ARRAYS].items()}
        found["numbers"] = vectors[1].tolist()
    found["layout"] = [astuple(number) for number in layout.numbers]
    found["vectors"] = [(vector.shape, str(vector.dtype)) for vector in vectors]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_of_a_private_reply_are_a_closed_set(kind: str, tmp_path: Path) -> None:
    text = text_for(kind, tmp_path)
    found = known(kind, text, reply_of(kind, text))
    expected = dict(ENTRIES)
    if kind == "statistics":
        expected[keys.METRICS] = STATISTICS
    records = {name: set(fields) for name, fields in found["records"].items()}
    arrays = records.pop(keys.ARRAYS, None)
    assert records == expected
    assert (arrays is None) == (kind == "statistics")
    names = [name for name, *_ in found["layout"]]
    if kind != "statistics":
        assert (names, found["numbers"]) == (["weight"], [1])
    assert found["heads"] == [{"site": "site-1", "answers": 1}]


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_differ_in_noised_fields_and_the_public_number_alone(
    kind: str, neighbour: str, tmp_path: Path, in_place_of: Any
) -> None:
    text = text_for(kind, tmp_path / "one")
    one = known(kind, text, reply_of(kind, text))
    text = text_for(kind, tmp_path / "other")
    in_place_of(text, NEIGHBOURS[neighbour])
    other = known(kind, text, reply_of(kind, text))
    if neighbour == "without" and kind == "statistics":
        counts = [found["metrics"].pop("count") for found in (one, other)]
        assert counts[0][0] - counts[1][0] == 1
    assert one == other


@pytest.mark.parametrize("kind", ["dp_sgd", "dp_aggregate"])
def test_progress_of_a_private_run_has_public_numbers_alone(kind: str, tmp_path: Path) -> None:
    text = text_for(kind, tmp_path)
    site = private.open_site(simulated(text))
    write = progress_writer(site, 1)
    if kind == "dp_aggregate":  # how many batches there are follows from how many images
        assert write is None
        return
    assert write is not None
    write(Progress(1, 2, float("nan"), 123.4))
    content = json.loads((site.folder / "progress.json").read_text())
    assert content == {"round": 1, "batch": 1, "batches": 2}
