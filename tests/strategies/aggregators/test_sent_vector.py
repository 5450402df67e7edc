"""What a coordinator remembers of rounds in which parts of updates travel."""

import numpy as np
from flwr.app import ConfigRecord

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.messages import sharing
from strategies.aggregators.sent_vector import SentModel, SentPart, sent_by

MODEL = {"b": np.zeros(2, np.float32), "a": np.zeros(8, np.float32)}


def sent(*sites: str, by: str = "change") -> SentModel:
    experiment = Experiment(
        federation=FederationConfig(sites=list(sites)),
        aggregation=AggregationConfig(share=0.4, share_by=by),
    )
    return sent_by(experiment, MODEL, MODEL)


def told(part: SentModel, number: int) -> ConfigRecord:
    config = ConfigRecord({})
    part.tell(config, number)
    return config


def test_a_whole_model_needs_nothing_told() -> None:
    whole = sent_by(Experiment(), MODEL, MODEL)
    assert not isinstance(whole, SentPart)
    assert told(whole, 1) == ConfigRecord({})
    assert whole.state() == {}


def test_half_of_the_places_are_those_that_changed_most_and_sites_know_where_they_were() -> None:
    part = sent("x", "y")
    assert told(part, 1)[sharing.SINCE] == [0, 0]
    after = {"b": np.array([0.5, 0.0], np.float32), "a": np.arange(8, dtype=np.float32) / 100}
    part.finished(1, ["y"], MODEL, after)
    config = told(part, 2)
    assert config[sharing.SINCE] == [0, 1]
    # by sorted name: 8 numbers of a, the last of them 0.07, then 0.5 of b
    assert sharing.told_places(config, part._experiment, 10).tolist() == [7, 8]
    mean = part.whole(np.ones(4, np.float32), 2)
    assert mean.sum() == 4
    assert mean[[7, 8]].tolist() == [1, 1]


def test_it_survives_a_crash_by_name_and_a_site_that_is_new_begins_anew() -> None:
    part, again = sent("x", "y"), sent("y", "z")
    part.finished(3, ["x", "y"], MODEL, {name: array + 1 for name, array in MODEL.items()})
    again.load_state(part.state())
    assert told(again, 4)[sharing.SINCE] == [3, 0]
    assert told(again, 4)[sharing.PLACES] == told(part, 4)[sharing.PLACES]
    again.load_state({})
    assert told(again, 4)[sharing.SINCE] == [0, 0]
