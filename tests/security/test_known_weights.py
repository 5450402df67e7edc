"""A site whose policy asks for known weights begins no run with others."""

from primia_flwr.messages import secure as wire
from primia_flwr.models.provenance import arrays_digest
from tests.security.lab import Refused, content_of, fresh_model, size_of
from tests.security.test_first_weights import trained
from tests.security.test_patients import THREE

KNOWN = {"allow_weights": "known"}


def train(lab, number, arrays, experiment, server_round=1):
    """Ask all for an update; who refused."""
    layout = wire.report_layout(experiment, size_of(arrays), 2)
    experiments = dict.fromkeys(THREE, experiment)
    answers = lab.vectors(number, experiments, "train", content_of(arrays, server_round), layout)[1]
    return {site for site, answer in answers.items() if isinstance(answer, Refused)}


def test_random_weights_are_known_and_later_rounds_are_the_runs_own(lab):
    found = lab(sites=THREE, policy=KNOWN)
    experiment = found.experiment("federation.rounds=3")
    assert train(found, 1, fresh_model(experiment), experiment) == set()
    assert train(found, 2, trained(fresh_model(experiment)), experiment, server_round=2) == set()


def test_others_are_refused_whatever_round_it_is_and_by_those_who_ask_alone(lab):
    found = lab(sites=THREE, policy={})
    found.set_policy("munich", KNOWN)
    experiment = found.experiment("federation.rounds=3")
    strange = trained(fresh_model(experiment))
    assert train(found, 1, strange, experiment, server_round=2) == {"munich"}
    assert arrays_digest(strange) in found.log()
    found.set_policy("munich", {"initial_weights": f"['{arrays_digest(strange)}']"})
    assert train(found, 2, strange, experiment, server_round=2) == set()


def test_another_run_of_the_same_experiment_begins_anew(lab):
    found = lab(sites=THREE, policy=KNOWN)
    first = found.experiment("federation.rounds=3")
    assert train(found, 1, fresh_model(first), first) == set()
    second = found.experiment("federation.rounds=3", run="b" * 32)
    assert train(found, 2, trained(fresh_model(second)), second) == set(THREE)
