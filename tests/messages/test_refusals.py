import pytest

from primia_flwr.messages.refusals import failure_reason, has_diverged


@pytest.mark.parametrize(
    ("reason", "diverged"),
    [
        ("<class 'primia_flwr.errors.DivergenceError'>:<'the loss became nan'>", True),
        # what a real site lets out of the house
        ("<class 'primia_flwr.errors.DivergenceError'>:<'see the log of the site'>", True),
        ("Traceback\\n primia_flwr.errors.DivergenceError: the loss became nan\\n", True),
        ("<class 'primia_flwr.errors.DataError'>:<'DivergenceError: no'>", False),
        ("out of memory", False),
    ],
)
def test_a_divergence_is_known_by_its_class(reason, diverged):
    assert has_diverged(reason) is diverged
    assert failure_reason(reason)
