"""A private run may not begin with a model that the site's patients may be in."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from primia_flwr.messages import secure as wire
from primia_flwr.models.provenance import arrays_digest
from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.site.policy import load_policy
from tests.security.lab import Refused, content_of, fresh_model, size_of
from tests.security.test_patients import EACH, PRIVATE, THREE

TWO_ROUNDS = (*PRIVATE, "federation.rounds=3")


def train(lab, number, arrays, experiment, server_round=1):
    """Ask all for an update; what each answered."""
    layout = wire.report_layout(experiment, size_of(arrays), 2)
    experiments = dict.fromkeys(THREE, experiment)
    return lab.vectors(number, experiments, "train", content_of(arrays, server_round), layout)[1]


def charges(lab, site="munich"):
    folder = load_policy(lab.policy_file(site)).privacy_folder
    if not (folder / "ledger.jsonl").exists():
        return 0
    with read_ledger(folder) as ledger:
        return len(ledger.charges())


def trained(arrays):
    """Arrays as after some training: close to the random ones, and not they."""
    return {name: (value * 1.02 + 0.003).astype(value.dtype) for name, value in arrays.items()}


def test_random_weights_of_the_seed_are_let_in(lab):
    found = lab(sites=THREE, policy=EACH)
    experiment = found.experiment(*PRIVATE)
    answers = train(found, 1, fresh_model(experiment), experiment)
    assert not any(isinstance(answer, Refused) for answer in answers.values())
    assert charges(found) == 1


def test_a_processor_that_rounds_otherwise_is_let_in(lab):
    found = lab(sites=THREE, policy=EACH)
    experiment = found.experiment(*PRIVATE)
    arrays = {n: np.nextafter(a, np.float32(9)) for n, a in fresh_model(experiment).items()}
    answers = train(found, 1, arrays, experiment)
    assert not any(isinstance(answer, Refused) for answer in answers.values())


@pytest.mark.parametrize("server_round", [1, 2])
@pytest.mark.parametrize("other", ["trained", "another seed"])
def test_another_model_is_refused_before_anything_is_charged(lab, other, server_round):
    """Whatever round the coordinator says it is: the first request of a run counts."""
    found = lab(sites=THREE, policy=EACH)
    experiment = found.experiment(*TWO_ROUNDS)
    drawn = fresh_model(experiment)
    arrays = trained(drawn) if other == "trained" else fresh_model(experiment, seed=3)
    answers = train(found, 1, arrays, experiment, server_round)
    assert all(isinstance(answer, Refused) for answer in answers.values())
    assert charges(found) == 0
    assert "initial_weights" not in str(answers)  # what the coordinator hears says nothing
    assert arrays_digest(arrays) in found.log()


def test_a_model_that_the_policy_lists_is_let_in_by_that_site_alone(lab):
    found = lab(sites=THREE, policy=EACH)
    experiment = found.experiment(*PRIVATE)
    arrays = trained(fresh_model(experiment))
    found.set_policy("munich", {"initial_weights": f"['{arrays_digest(arrays)}']"})
    answers = train(found, 1, arrays, experiment)
    refused = {site for site, answer in answers.items() if isinstance(answer, Refused)}
    assert refused == {"paris", "london"}


def test_weights_of_a_file_are_refused_by_the_gate(lab):
    found = lab(sites=THREE, policy=EACH)
    experiment = found.experiment(*PRIVATE, "model.weights=theirs.safetensors")
    answer = found.query("munich", {}, experiment)
    assert isinstance(answer, Refused)
    assert answer.before
    assert "model.weights='theirs.safetensors'; expected none" in answer.reason


def test_later_rounds_go_on_with_whatever_the_sum_was(lab):
    """Noise was added to it: it is the run's own, and its steps are charged like the first."""
    found = lab(sites=THREE, policy=EACH)
    experiment = found.experiment(*TWO_ROUNDS)
    drawn = fresh_model(experiment)
    train(found, 1, drawn, experiment)
    answers = train(found, 2, trained(drawn), experiment, 2)
    assert not any(isinstance(answer, Refused) for answer in answers.values())
    assert charges(found) == 2


def test_noisy_statistics_are_no_first_request(lab):
    """They come before, are charged, and have no model."""
    found = lab(sites=THREE, policy=EACH)
    noisy = ("privacy.statistics_noise=6", "data.normalisation.kind=federated")
    experiment = found.experiment(*PRIVATE, *noisy)
    layout = wire.statistics_layout(experiment, 2)
    ask = RecordDict({"config": ConfigRecord()})
    found.vectors(1, dict.fromkeys(THREE, experiment), "query.statistics", ask, layout)
    assert charges(found) == 1
    answers = train(found, 2, trained(fresh_model(experiment)), experiment)
    assert all(isinstance(answer, Refused) for answer in answers.values())
    assert charges(found) == 1
