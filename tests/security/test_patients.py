"""Who is a patient is the site's to say: a coordinator cannot rename them to reset their budget."""

import pytest
from flwr.app import Context, RecordDict

from clients.site import open_site
from primia_flwr.config.load import to_yaml
from primia_flwr.data.manifest import Sample
from primia_flwr.federation import secure_records as wire
from primia_flwr.privacy.ledger import Ledger
from primia_flwr.site.policy import load_policy
from tests.security.lab import Refused, content_of, fresh_model, size_of

THREE = ["munich", "paris", "london"]
PRIVATE = (
    *("privacy=dp_sgd", "privacy.epsilon=3", "privacy.expected_batch=4", "privacy.steps=1"),
    *("federation.rounds=1", "data.channels=1"),
)
OWN = r"(?P<patient>(ill|well)/p\d)"
CEILING = {"max_epsilon": "3"}


def ask(lab, number, *overrides):
    """One private round of a new run; the sums' vectors, or the first refusal."""
    experiment = lab.experiment(*PRIVATE, *overrides, run=f"{number:032x}")
    hello = lab.query("munich", {}, experiment)
    if isinstance(hello, Refused):  # the gate does not let the run in
        return hello
    arrays = fresh_model(experiment)
    layout = wire.report_layout(experiment, size_of(arrays), 2)
    told = dict.fromkeys(THREE, experiment)
    _, answers = lab.vectors(number, told, "train", content_of(arrays, 1), layout)
    refused = [answer for answer in answers.values() if isinstance(answer, Refused)]
    return refused[0] if refused else answers


@pytest.mark.parametrize(
    "renamed",
    [
        "",
        r"data.patient_pattern='^(?P<patient>.+)$'",
        r"data.patient_pattern='^.{1}(?P<patient>.+)$'",
        "data.patient_column=path_",
        "privacy.unit=image",
        "seed=7",
        "data.layout=manifest",
        "data.root=elsewhere",
    ],
)
def test_a_second_run_does_not_begin_at_zero(lab, renamed):
    found = lab(sites=THREE, policy=CEILING)
    assert not isinstance(ask(found, 1), Refused)
    second = ask(found, 2, *([renamed] if renamed else []))
    assert isinstance(second, Refused)
    with Ledger.read(load_policy(found.policy_file("munich")).privacy_folder) as ledger:
        (charge,) = ledger.charges()
        assert 2.9 < ledger.spent(charge.version) <= 3


def test_the_sites_own_pattern_counts_patients(lab):
    """Twelve images of eight patients: their names begin alike up to a digit."""
    found = lab(sites=THREE, policy={**CEILING, "patient_pattern": f"'{OWN}'"})
    experiment = found.experiment(*PRIVATE)
    node = {"site": "munich", "site-file": str(found.policy_file("munich"))}
    site = open_site(Context(1, 7, node, RecordDict(), {"config": to_yaml(experiment)}))
    images = site.data.train.joined(site.data.val)
    assert set(images.patients) == {"ill/p0", "well/p0"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mu\u0308ller", "M\u00fcller"),  # NFD and NFC
        ("\uff17\uff17", "77"),  # full width digits
        ("  p1", "p1\u00a0"),  # outer white space, also one that does not break
        ("p1\n", "p1"),
        ("\ufb01sh", "fish"),  # a ligature
    ],
)
def test_names_that_differ_in_form_are_one_patient(one, other):
    assert Sample("a.png", 0, one).patient == Sample("b.png", 0, other).patient


@pytest.mark.parametrize(("one", "other"), [("p1", "p2"), ("a b", "ab"), ("P1", "p1")])
def test_names_that_differ_otherwise_are_two(one, other):
    assert Sample("a.png", 0, one).patient != Sample("b.png", 0, other).patient
