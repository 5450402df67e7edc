"""Whoever fails, the other parties end with one clear error, and soon."""

import time

import pytest
import torch

from primia_flwr.inference.crypten.requests import MAX_REQUEST_BYTES
from primia_flwr.inference.crypten.wire import CORRECTION, REQUEST, SEED
from tests.inference import crypten_parties
from tests.inference.crypten_parties import (
    Failed,
    ToyNet,
    classify,
    data_owner_task,
    dying_task,
    model_owner_task,
    together,
)

SHAPE = (1, 1, 8, 8)


def run(tasks=(data_owner_task, model_owner_task), *, timeout=10.0, **options):
    """Run a small computation; return its three results and the seconds it took."""
    crypten_parties.pair()
    arguments = (ToyNet(), torch.zeros(SHAPE), {}), (ToyNet(), SHAPE, {})
    start = time.monotonic()
    results = together(tasks, arguments, timeout=timeout, **options)
    return results, time.monotonic() - start


def seeds_only(data_owner, model_owner):
    data_owner.send(SEED, bytes(32))
    model_owner.send(SEED, bytes(32))


def dies(data_owner, model_owner):
    seeds_only(data_owner, model_owner)
    model_owner.receive(REQUEST, at_most=MAX_REQUEST_BYTES)
    data_owner.close()
    model_owner.close()


def falls_silent(data_owner, model_owner):
    seeds_only(data_owner, model_owner)
    model_owner.receive(REQUEST, at_most=MAX_REQUEST_BYTES)
    time.sleep(4.0)


def answers_too_much(data_owner, model_owner):
    seeds_only(data_owner, model_owner)
    model_owner.receive(REQUEST, at_most=MAX_REQUEST_BYTES)
    model_owner.send(CORRECTION, bytes(1 << 20))


def sends_half_a_seed(data_owner, model_owner):
    data_owner.send(SEED, bytes(16))
    model_owner.send(SEED, bytes(16))


def test_a_dealer_that_dies():
    (first, second, _), seconds = run(dealer=dies)
    assert (first.kind, second.kind) == ("ServiceError", "ServiceError")
    assert "crypto-provider" in second.message
    assert first.message.startswith("model-owner trial: ")
    assert "crypto-provider" in first.message
    assert seconds < 10


def test_a_dealer_that_falls_silent():
    (first, second, _), seconds = run(dealer=falls_silent, timeout=1.5)
    assert (first.kind, second.kind) == ("ServiceError", "ServiceError")
    assert "waiting" in second.message
    assert seconds < 10


def test_a_dealer_that_answers_too_much():
    (first, second, _), _ = run(dealer=answers_too_much)
    assert (first.kind, second.kind) == ("ServiceError", "ProtocolError")
    assert "at most" in second.message


def test_a_seed_of_another_length():
    (first, second, _), _ = run(dealer=sends_half_a_seed)
    for result in (first, second):
        assert isinstance(result, Failed)
        assert result.kind in ("ProtocolError", "ServiceError")
        assert "16 bytes" in result.message


def test_after_a_failure_the_same_processes_compute_again():
    run(dealer=dies)
    model = ToyNet().eval()
    logits, nothing, _ = classify(ToyNet(), model, torch.zeros(SHAPE))
    with torch.inference_mode():
        assert (logits - model(torch.zeros(SHAPE))).abs().max() < 0.02
    assert nothing is None


@pytest.mark.parametrize("who", [0, 1], ids=["data owner", "model owner"])
def test_a_party_that_dies(who):
    tasks = [data_owner_task, model_owner_task]
    tasks[who] = dying_task
    results, seconds = run(tuple(tasks))
    assert results[who] is None
    assert results[1 - who].kind == "ServiceError"
    assert "the link to" in results[1 - who].message
    assert results[2].kind == "ServiceError"
    assert seconds < 10
