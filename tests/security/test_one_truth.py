"""A coordinator that tells sites different things: what was masked does not add up.

Each test tells one site, the victim, the truth, and the others something under which they send next
to nothing: the "sum" would be the victim's own update.
"""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.messages import keys
from primia_flwr.messages import secure as wire
from primia_flwr.processes.children import BUNDLE_VARIABLE
from primia_flwr.tasks.classification import TASK
from strategies.aggregators.secure.plausibility import check_plausible
from tests.security.lab import Refused, content_of, fresh_model, size_of

THREE = ["munich", "paris", "london"]
STILL = ("training.learning_rate=1e-30", "training.min_learning_rate=1e-30")


def updates(lab, experiment, content):
    """What each site's own update is: never sent."""
    before = wire.numpy_arrays(content.array_records[keys.ARRAYS])
    return {
        site: wire.difference(
            wire.numpy_arrays(
                lab.own(site, "train", content, experiment).array_records[keys.ARRAYS]
            ),
            before,
        )
        for site in THREE
    }


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.fixture
def scene(lab):
    found = lab(sites=THREE)
    experiment = found.experiment()
    content = content_of(fresh_model(experiment), 1)
    layout = wire.report_layout(experiment, size_of(fresh_model(experiment)), 2)
    return found, experiment, content, layout


def test_told_the_same_the_sum_is_that_of_all(scene):
    lab, experiment, content, layout = scene
    totals = lab.sum(1, dict.fromkeys(THREE, experiment), "train", content, layout)
    sums = layout.numbers_of(totals)
    check_plausible(layout, totals, sums, 3, task=TASK)
    assert sums["weight"] == [3]
    expected = sum(updates(lab, experiment, content).values()) / 3
    assert layout.mean_of(totals, 3.0) == pytest.approx(
        expected, abs=layout.error_bound(3, 3) + 1e-7
    )


def reads_nothing(scene, experiments, content, runs=None):
    """The victim munich is told the truth; assert that the opened words are noise."""
    lab, experiment, honest, layout = scene
    server, answers = lab.vectors(1, experiments, "train", content, layout, runs=runs)
    assert not any(isinstance(answer, Refused) for answer in answers.values()), answers
    totals = lab.unmask(server, experiments, runs=runs)
    with pytest.raises(ProtocolError, match="expected"):
        check_plausible(layout, totals, layout.numbers_of(totals), 3, task=TASK)
    read = totals[0].view(np.int32).astype(np.float64)
    assert abs(cosine(read, updates(lab, experiment, honest)["munich"])) < 0.2


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(STILL, id="learning-rate"),
        pytest.param(("seed=2",), id="seed"),
        pytest.param(("data.val_fraction=0.3",), id="who-is-validated"),
        pytest.param(("data.augmentation.flip.horizontal=1",), id="augmentation"),
        pytest.param(("training.label_smoothing=0.1",), id="loss"),
        pytest.param(("federation.rounds=9",), id="schedule"),
        pytest.param(("strategy=fedadam",), id="server-side"),
        pytest.param(("quiet=true",), id="what-changes-nothing"),
    ],
)
def test_another_experiment(scene, lie):
    lab, experiment, content, _ = scene
    other = lab.experiment(*lie)
    reads_nothing(scene, {"munich": experiment, "paris": other, "london": other}, content)


def test_two_runs_of_flower_that_share_one_session_name(scene):
    _, experiment, content, _ = scene
    reads_nothing(
        scene, dict.fromkeys(THREE, experiment), content, {"munich": 1, "paris": 2, "london": 2}
    )


@pytest.mark.parametrize(
    "lie", [{keys.PIXEL_MEAN: [0.25]}, {keys.LABEL_COUNTS: [1, 36]}, {keys.ROUND: 2}, {"x": 1}]
)
def test_another_configuration_of_the_round(scene, lie):
    _, experiment, content, _ = scene
    config = ConfigRecord({**content.config_records[keys.CONFIG], **lie})
    other = RecordDict({**content, keys.CONFIG: config})
    experiments = dict.fromkeys(THREE, experiment)
    reads_nothing(scene, experiments, {"munich": content, "paris": other, "london": other})


def test_another_model(scene):
    _, experiment, content, _ = scene
    other = content_of(fresh_model(experiment, seed=4), 1)
    experiments = dict.fromkeys(THREE, experiment)
    reads_nothing(scene, experiments, {"munich": content, "paris": other, "london": other})


def test_another_bundle(scene, monkeypatch):
    """Each gate tells the app which bundle it admitted; here munich's admitted another one."""
    lab, experiment, content, _ = scene
    experiments, send = dict.fromkeys(THREE, experiment), lab.send

    def sent(site, *arguments, **how):
        with monkeypatch.context() as patched:
            patched.setenv(BUNDLE_VARIABLE, ("a" if site == "munich" else "b") * 64)
            return send(site, *arguments, **how)

    monkeypatch.setattr(lab, "send", sent)
    reads_nothing(scene, experiments, content)


def test_a_record_that_is_not_bound_is_refused(scene):
    lab, experiment, content, layout = scene
    more = RecordDict({**content, "more": ConfigRecord({"learning-rate": 0.0})})
    experiments = dict.fromkeys(THREE, experiment)
    _, answers = lab.vectors(1, experiments, "train", more, layout)
    assert all(isinstance(answer, Refused) for answer in answers.values())
    assert "a message with 'more'" in lab.log()


def test_a_message_of_another_kind_does_not_add_up(scene):
    """The others are asked to train while the victim only validates, or the other way."""
    lab, experiment, content, _ = scene
    layout = wire.report_layout(experiment, 0, 2)
    experiments = dict.fromkeys(THREE, experiment)
    server, _ = lab.vectors(1, experiments, "evaluate", content, layout)
    assert len(server.survivors) == 3
    terms = wire.terms_of(experiment, flower_run=1, bundle="")
    base = wire.model_digest(content.array_records[keys.ARRAYS])
    kinds = {
        wire.transcript_hash(base, content, layout, kind, terms=terms)
        for kind in ("train", "evaluate")
    }
    assert len(kinds) == 2


def test_the_terms_are_those_of_the_whole_experiment(lab):
    """Whatever key is changed, the digest is another; a text written otherwise is the same."""
    experiment = lab(sites=THREE).experiment()
    known = wire.terms_of(experiment, flower_run=1, bundle="")
    assert wire.terms_of(replace(experiment), flower_run=1, bundle="") == known
    assert wire.terms_of(experiment, flower_run=2, bundle="") != known
    assert wire.terms_of(experiment, flower_run=1, bundle="a" * 64) != known
    for change in ({"seed": 5}, {"output_dir": "x"}, {"name": "other"}):
        assert wire.terms_of(replace(experiment, **change), flower_run=1, bundle="") != known


def test_a_session_name_that_is_no_name_is_refused():
    with pytest.raises(ConfigError, match=r"aggregation\.run="):
        AggregationConfig(run="0" * 32 + "\n")
