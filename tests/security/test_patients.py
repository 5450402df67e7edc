"""Who is a patient is the site's to say: a coordinator cannot rename them to reset their budget."""

import shutil

import pytest
from flwr.app import Context, RecordDict

from clients.site.opened import open_site
from primia_flwr.config.load import to_yaml
from primia_flwr.data.manifest import Sample
from primia_flwr.messages import secure as wire
from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.site.policy import load_policy
from tests.security.lab import Refused, content_of, fresh_model, size_of

THREE = ["munich", "paris", "london"]
PRIVATE = (
    *("privacy=dp_sgd", "privacy.epsilon=3", "privacy.expected_batch=4", "privacy.steps=1"),
    *("federation.rounds=1", "data.channels=1"),
)
OWN = r"(?P<patient>(ill|well)/p\d)"
EACH = {"patient_pattern": "'^(?P<patient>.+[.])'"}  # every image is a patient
CEILING = {"max_epsilon": "3", **EACH}


def ask(lab, number, *overrides):
    """One private round of a new run; the sums' vectors, or the first refusal."""
    experiment = lab.experiment(*PRIVATE, *overrides, run=f"{number:032x}")
    hello = lab.query("munich", {}, experiment)
    if isinstance(hello, Refused):  # the gate does not let the run in
        return hello
    arrays = fresh_model(experiment)
    layout = wire.report_layout(experiment, size_of(arrays), 2)
    experiments = dict.fromkeys(THREE, experiment)
    _, answers = lab.vectors(number, experiments, "train", content_of(arrays, 1), layout)
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
    with read_ledger(load_policy(found.policy_file("munich")).privacy_folder) as ledger:
        (charge,) = ledger.charges()
        assert 2.9 < ledger.spent(charge.version) <= 3


def other_pattern(found, data):
    """The staff corrects the pattern: eight patients where there were two."""
    found.set_policy("munich", {"patient_pattern": "'^(?P<patient>.+)[.]'"})


def other_root(found, data):
    shutil.copytree(data, found.folder / "moved", dirs_exist_ok=True)
    found.set_policy("munich", {"data_root": f'"{found.folder / "moved"}"'})


def renamed_files(found, data):
    """Every file under another name, in another layout of folders."""
    target = found.folder / "renamed"
    shutil.rmtree(target, ignore_errors=True)
    for number, file in enumerate(sorted(path for path in data.rglob("*") if path.is_file())):
        label = file.relative_to(data).parts[0]
        (target / label / f"new{number}").mkdir(parents=True)
        shutil.copy(file, target / label / f"new{number}" / f"scan{file.suffix}")
    found.set_policy("munich", {"data_root": f'"{target}"'})


def as_a_manifest(found, data):
    """The same files by a table, with names of patients that were never seen."""
    files = sorted(path for path in data.rglob("*") if path.is_file())
    rows = [
        f"{file.relative_to(data).as_posix()},{file.relative_to(data).parts[0]},x{number // 2}"
        for number, file in enumerate(files)
    ]
    (found.folder / "a.csv").write_text("path,label,patient\n" + "\n".join(rows) + "\n")
    table = {"data_layout": "manifest", "data_manifest": f'"{found.folder / "a.csv"}"'}
    found.set_policy("munich", table)


def half_of_it(found, data):
    """Half of the images, renamed: those that are left are known."""
    renamed_files(found, data)
    for folder in sorted((found.folder / "renamed").glob("*/new*"))[::2]:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "change", [other_pattern, other_root, renamed_files, as_a_manifest, half_of_it]
)
def test_the_same_images_have_no_fresh_budget(lab, change):
    """Whatever the staff changes in the policy: the images are known again by their bytes."""
    found = lab(sites=THREE, policy={**CEILING, "patient_pattern": f"'{OWN}'"})
    assert not isinstance(ask(found, 1), Refused)
    change(found, found.folder / "data" / "munich")
    assert isinstance(ask(found, 2), Refused)
    with read_ledger(load_policy(found.policy_file("munich")).privacy_folder) as ledger:
        assert len(ledger.charges()) == 1
    assert "most used patient would be" in found.log()


def test_a_private_run_says_which_classes_there_are(lab):
    """Else how many a site finds, and so the size of what it sends, hangs on single patients."""
    found = lab(sites=THREE, policy=EACH)
    assert isinstance(ask(found, 1, "data.classes=[]"), Refused)
    assert "data.classes=[]; expected the classes' names in a private run" in found.log()
    assert not isinstance(ask(found, 2), Refused)


def test_images_of_unknown_patients_are_no_patients(lab):
    """Two images of one would be two units: nothing is released until the patients have names."""
    found = lab(sites=THREE)
    assert isinstance(ask(found, 1), Refused)
    assert "the patient of 12 image(s) is unknown" in found.log()
    assert "set privacy.unit=image" in found.log()


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
