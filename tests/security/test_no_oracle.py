"""After admission a site answers with one constant error, whatever went wrong."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from primia_flwr.errors import FAILED_AT_SITE
from primia_flwr.messages import secure as wire
from primia_flwr.secagg.protocol.wire import encode
from tests.security.lab import Refused, content_of, fresh_model, size_of

THREE = ["munich", "paris", "london"]
SECRET = "Mueller_Anna_1957-03-02.png"
NAMES = {("munich", "well", 2): SECRET}
ONE_ERROR = Refused(f"SiteFailure: {FAILED_AT_SITE}", before=False)


@pytest.fixture
def scene(lab):
    found = lab(sites=THREE, names=NAMES)
    return found, found.experiment()


@pytest.mark.parametrize("has", [r".*Mueller", r".*Schmidt"])
def test_a_pattern_of_the_coordinator_is_refused_whether_it_matches_or_not(scene, has):
    """Its look-ahead would ask whether a hospital has a file of that name."""
    lab, _ = scene
    asked = lab.experiment(rf"data.patient_pattern='^(?!{has})(?P<patient>.+)$'")
    answers = [lab.send(site, "evaluate", RecordDict(), asked) for site in THREE]
    assert all(answer.before for answer in answers), "refused before anything ran"
    assert (
        len({answer.reason.replace(s, "") for s, answer in zip(THREE, answers, strict=True)}) == 1
    )
    assert "data.patient_pattern=" in answers[0].reason
    assert "patient_pattern or ''" in answers[0].reason


def without_arrays(lab, experiment):
    server = lab.instance(1, dict.fromkeys(THREE, experiment))
    requests = server.begin_sum(b"never used")
    return {
        s: RecordDict({wire.SECAGG: ConfigRecord({wire.MASK: encode(r)})})
        for s, r in requests.items()
    }


def of_another_model(lab, experiment):
    server = lab.instance(1, dict.fromkeys(THREE, experiment))
    requests = server.begin_sum(b"never used")
    arrays = {"weight": np.zeros(3, np.float32)}
    return {
        s: RecordDict({**content_of(arrays, 1), wire.SECAGG: ConfigRecord({wire.MASK: encode(r)})})
        for s, r in requests.items()
    }


def in_the_clear(lab, experiment):
    return dict.fromkeys(THREE, content_of(fresh_model(experiment), 1))


def of_no_instance(lab, experiment):
    content = content_of(fresh_model(experiment), 1)
    content[wire.SECAGG] = ConfigRecord({wire.MASK: b"rubbish"})
    return dict.fromkeys(THREE, content)


@pytest.mark.parametrize("made", [without_arrays, of_another_model, in_the_clear, of_no_instance])
def test_every_failure_looks_alike(scene, made):
    lab, experiment = scene
    for site, content in made(lab, experiment).items():
        for kind in ("train", "evaluate"):
            assert lab.send(site, kind, content, experiment) == ONE_ERROR
    assert '"failed"' in lab.log(), "the hospital's own staff reads why"


def test_data_that_cannot_be_read_look_like_any_failure(lab):
    found = lab(sites=THREE, names=NAMES, policy={"data_root": "nowhere"})
    experiment = found.experiment()
    layout = wire.statistics_layout(experiment, 2)
    content = RecordDict({"config": ConfigRecord({})})
    experiments = dict.fromkeys(THREE, experiment)
    _, answers = found.vectors(1, experiments, "query.statistics", content, layout)
    assert set(answers.values()) == {ONE_ERROR}
    assert "nowhere" in found.log()


def test_an_image_that_does_not_match_the_sites_own_pattern_names_nobody(lab):
    found = lab(sites=THREE, names=NAMES, policy={"patient_pattern": r"'(?P<patient>p\d+)'"})
    experiment = found.experiment()
    experiments = dict.fromkeys(THREE, experiment)
    layout = wire.statistics_layout(experiment, 2)
    _, answers = found.vectors(
        1, experiments, "query.statistics", RecordDict({"config": ConfigRecord({})}), layout
    )
    assert answers["munich"] == ONE_ERROR
    assert isinstance(answers["paris"], RecordDict)
    assert SECRET in found.log(), "in the hospital's own log"


@pytest.mark.parametrize(
    "bound",
    [
        pytest.param(("aggregation.clip=1e-6",), id="clip"),
        pytest.param(("strategy.weighting=images", "aggregation.max_weight=1"), id="weight"),
        pytest.param(
            ("training.learning_rate=1e30", "training.min_learning_rate=1e30"), id="diverges"
        ),
    ],
)
def test_bounds_of_the_coordinator_ask_nothing_of_a_single_site(scene, bound):
    """All answer; the sum says how many declined, and nothing of any update."""
    lab, _ = scene
    experiment = lab.experiment(*bound)
    arrays = fresh_model(experiment)
    layout = wire.report_layout(experiment, size_of(arrays), 2)
    experiments = dict.fromkeys(THREE, experiment)
    server, answers = lab.vectors(1, experiments, "train", content_of(arrays, 1), layout)
    assert all(isinstance(answer, RecordDict) for answer in answers.values())
    totals = lab.unmask(server, experiments)
    sums = layout.numbers_of(totals)
    assert sums["declined"] == [3]
    assert abs(sums["images"][0]) > 1e9, "the rest is noise"
    assert np.abs(totals[0].view(np.int32).astype(float)).max() > 2**30


def test_a_sum_without_those_who_decline_shows_nobody(lab):
    """A bound that two of three sites pass would else leave the third one's update alone."""
    found = lab(sites=THREE, names=NAMES)
    found.set_policy("munich", {"min_round_images": "4"})
    for site in ("paris", "london"):
        found.set_policy(site, {"min_round_images": "1000"})
    experiment = found.experiment()
    arrays = fresh_model(experiment)
    content = content_of(arrays, 1)
    layout = wire.report_layout(experiment, size_of(arrays), 2)
    totals = found.sum(1, dict.fromkeys(THREE, experiment), "train", content, layout)
    assert layout.numbers_of(totals)["declined"] == [2]
    trained = found.own("munich", "train", content, experiment).array_records["arrays"]
    update = wire.difference(wire.numpy_arrays(trained), arrays)
    read = totals[0].view(np.int32).astype(np.float64)
    assert abs(read @ update / np.linalg.norm(read) / np.linalg.norm(update)) < 0.2
