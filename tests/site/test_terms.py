"""One negative test for each key of the run's configuration that reaches a protection."""

from pathlib import Path

import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import PolicyRefusal
from primia_flwr.provisioning.federation import Plan, provision
from primia_flwr.provisioning.federation_changes import FederationFolder
from primia_flwr.site.members import members_digest
from primia_flwr.site.policy import SitePolicy
from primia_flwr.site.terms import BUNDLE, TERMS, check_terms, wish

NAMES = ["munich", "paris", "london"]
THREAT_MODEL = Path(__file__).parents[2] / "docs/threat-model.md"
HASH = "ab" * 32
PRIVATE = {"privacy.mode": "dp_sgd", "aggregation.name": "secure"}
IN_THE_SUM = {"privacy.mode": "dp_aggregate", "aggregation.name": "secure"}
SECURE = {"aggregation.name": "secure"}
OPEN = {"aggregation.name": "plain"}
LATER = {"aggregation.name": "asynchronous"}
BUFFERED = {"aggregation.name": "buffered"}
ANY_UPDATE = {"require_secure_aggregation": False}
RELAY = {"aggregation.name": "relay", "aggregation.sealed": True, "aggregation.reveal": "never"}


def nested(values):
    """Return the mapping of mappings that dotted keys stand for."""
    found = {}
    for key, value in ({"federation.min_sites": 3} | values).items():
        *folders, last = key.split(".")
        place = found
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return found


def policy(**values):
    return SitePolicy("munich", "fl.example.org:9391", **values)


# key, what else the run says, the wish that is refused, the one that is not, the site's policy
CASES = [
    ("aggregation.name", {}, "plain", "secure", {}),
    ("aggregation.name", {}, "relay", "secure", {"allow_relay": "no"}),
    ("aggregation.name", {}, "relay", "secure", {"allow_relay": "private", "max_epsilon": 0.0}),
    ("aggregation.name", PRIVATE, "relay", "secure", {"allow_relay": "private"}),
    ("aggregation.sealed", RELAY, False, True, {"allow_relay": "yes"}),
    ("aggregation.reveal", RELAY, "end", "never", {"allow_relay": "yes"}),
    ("aggregation.name", {}, "asynchronous", "secure", {}),
    ("aggregation.buffer", LATER, 2, 3, ANY_UPDATE),
    ("aggregation.buffer", LATER | {"federation.min_sites": 5}, 3, 4,
     ANY_UPDATE | {"min_sites": 4}),
    ("aggregation.name", {}, "asynchronous", "buffered", {}),
    ("aggregation.buffer", BUFFERED, 2, 3, {"allow_relay": "yes"}),
    ("aggregation.buffer", BUFFERED | {"federation.min_sites": 4, "aggregation.min_survivors": 4},
     3, 4, {"min_survivors": 4}),
    ("aggregation.min_survivors", BUFFERED | {"aggregation.buffer": 5}, 3, 5,
     {"min_survivors": 4}),
    ("aggregation.max_colluding", BUFFERED, 0, 2, {"max_colluding": 1}),
    ("aggregation.mixed_rounds", BUFFERED, True, False, {}),
    ("data.volumes.fingerprint", SECURE, True, False, {}),
    ("aggregation.allow_other_survivors", BUFFERED, True, False, {}),
    ("privacy.mode", SECURE, "none", "dp_sgd", {"max_epsilon": 3.0}),
    ("federation.min_sites", SECURE, 2, 3, {"min_sites": 3}),
    ("aggregation.min_survivors", SECURE, 3, 5, {"min_survivors": 4}),
    ("aggregation.max_colluding", SECURE, 0, 2, {"max_colluding": 1}),
    ("aggregation.degree", SECURE, 4, 0, {}),
    ("aggregation.accept_two", SECURE, True, False, {}),
    ("aggregation.allow_other_survivors", SECURE, True, False, {}),
    ("aggregation.allow_other_survivors", PRIVATE, True, False, {}),
    ("aggregation.allow_other_survivors", IN_THE_SUM, True, False, {"max_epsilon": 3.0}),
    (
        "aggregation.member_lists_since", SECURE, "2026-12-01", "2026-11-29",
        {"member_lists_since": "2026-11-29"},
    ),
    ("debug.verify_sums", SECURE, True, False, {}),
    ("debug.cross_site", OPEN, True, False, {"require_secure_aggregation": False}),
    ("debug.cross_site", OPEN, "no", False,
     {"require_secure_aggregation": False, "allow_relay": "private", "max_epsilon": 0.0}),
    ("strategy.options", OPEN, {"vote": "insulearn"}, {"vote": "size"},
     {"require_secure_aggregation": False}),
    ("strategy.options", OPEN, {"vote": "Insulearn"}, {"q": 2.0},
     {"require_secure_aggregation": False}),
    ("data.task", SECURE, "segmentation", "classification", {}),
    ("data.task", SECURE, "multilabel", "conformal", {}),
    ("data.task", SECURE, "classification", "multilabel", {"data_task": "multilabel"}),
    ("data.task", SECURE, "classification", "grade", {"data_task": "plugin:grade"}),
    ("data.task", SECURE, "grade", "classification", {}),
    ("data.task", OPEN, "conformal", "classification", {"require_secure_aggregation": False}),
    ("data.task", OPEN, "multilabel", "conformal",
     {"require_secure_aggregation": False, "data_task": "conformal"}),
    ("data.classes", SECURE, ["ill", "dead"], ["well", "ill"], {"data_classes": ["ill", "well"]}),
    ("data.classes", SECURE, "ill", ["ill"], {"data_classes": ["ill", "well"]}),
    ("data.classes", SECURE | {"data.task": "segmentation"}, ["lesion", "rest"], ["rest", "lesion"],
     {"data_task": "segmentation", "data_classes": ["rest", "lesion"]}),
    ("data.classes", SECURE | {"data.task": "segmentation"}, ["rest"], ["rest", "lesion"],
     {"data_task": "segmentation", "data_classes": ["rest", "lesion"]}),
    ("data.patient_pattern", SECURE, "(?P<patient>.)", r"(?P<patient>\d+)_",
     {"patient_pattern": r"(?P<patient>\d+)_"}),
    ("data.patient_pattern", SECURE, "(?P<patient>.)", "", {}),
    ("data.patient_column", SECURE, "image", "pat_id", {"patient_column": "pat_id"}),
    ("data.columns", SECURE, {"patient": "image"}, {"path": "Image Index"},
     {"data_columns": {"path": "Image Index"}}),
    ("data.columns", SECURE, {"patient": "image"}, {}, {}),
    ("privacy.unit", PRIVATE, "image", "patient", {}),
    ("privacy.delta", PRIVATE, 1e-3, 1e-5, {}),
    ("privacy.delta", PRIVATE, 1e-9, 1e-5, {}),
    ("model.weights", PRIVATE, "model.safetensors", "none", {}),
    ("model.weights", PRIVATE, "imagenet", "none", {}),
    ("model.weights", SECURE, "w.safetensors", "imagenet", {"allow_weights": "known"}),
    ("model.weights", SECURE, "w.pth", "none", {"allow_weights": "known"}),
    ("privacy.max_knowing", IN_THE_SUM | {"aggregation.max_colluding": 2}, 1, 3,
     {"max_colluding": 3, "min_survivors": 5}),
    ("training.sync_every_n_batches", SECURE | {"training.batch_size": 2}, 1, 2, {}),
    ("training.sync_every_n_batches", SECURE | {"training.batch_size": 1}, 31, 0,
     {"min_round_images": 32}),
]  # fmt: skip


def run(key, also, value, own):
    """Judge a run; what else the policy insists on is met."""
    rest = {
        "aggregation.min_survivors": own.get("min_survivors", 3),
        "aggregation.max_colluding": own.get("max_colluding", 0),
    }
    check_terms(nested(rest | also | {key: value}), policy(**own), HASH)


@pytest.mark.parametrize(("key", "also", "bad", "good", "own"), CASES)
def test_a_wish_for_less_is_refused_and_one_for_as_much_is_not(key, also, bad, good, own):
    if key == "privacy.max_knowing":  # either of the two keys is enough
        own_rest = {"aggregation.min_survivors": 5}
        with pytest.raises(PolicyRefusal, match=r"aggregation\.max_colluding=2"):
            check_terms(nested(also | own_rest | {key: bad}), policy(**own), HASH)
        also = also | {"aggregation.max_colluding": 3}
        check_terms(nested(also | own_rest | {key: good}), policy(**own), HASH)
        return
    with pytest.raises(PolicyRefusal) as refusal:
        run(key, also, bad, own)
    assert str(refusal.value).startswith(f"site munich refuses: {key}={bad!a}; expected ")
    run(key, also, good, own)


def test_noise_counts_on_as_many_that_know_theirs_as_the_site():
    wishes = IN_THE_SUM | {"privacy.max_knowing": 0, "aggregation.max_colluding": 0}
    with pytest.raises(PolicyRefusal, match=r"privacy\.max_knowing=0; expected at least 1"):
        check_terms(nested(wishes), policy(), HASH)
    check_terms(nested(wishes | {"privacy.mode": "dp_sgd"}), policy(), HASH)


def test_other_hospitals_get_a_model_where_the_policy_lets_them():
    own = {"require_secure_aggregation": False, "allow_relay": "yes"}
    wishes = {"debug.cross_site": True, "strategy.options": {"vote": "insulearn"}}
    check_terms(nested(OPEN | wishes), policy(**own), HASH)


@pytest.mark.parametrize(
    ("also", "own", "allowed"),
    [
        ({}, {}, False),
        ({}, {"require_secure_aggregation": False}, False),
        ({}, {"allow_relay": "private", "max_epsilon": 3.0}, False),
        ({}, {"allow_relay": "yes"}, True),
        ({"privacy.mode": "dp_sgd"}, {"allow_relay": "private", "max_epsilon": 3.0}, True),
        ({"privacy.mode": "dp_sgd"}, {"allow_relay": "private"}, False),
        ({"privacy.mode": "dp_aggregate"}, {"allow_relay": "private", "max_epsilon": 3.0}, False),
        ({"privacy.mode": "dp_sgd"}, {"allow_relay": "no", "max_epsilon": 3.0}, False),
        ({"aggregation.sealed": False}, {"allow_relay": "yes"}, False),
        (
            {"aggregation.sealed": False, "aggregation.reveal": "end"},
            {"allow_relay": "yes", "require_secure_aggregation": False},
            True,
        ),
        ({"aggregation.name": "Relay"}, {"allow_relay": "yes"}, False),
        ({"aggregation.name": ["relay"]}, {"allow_relay": "yes"}, False),
    ],
)
def test_a_relay_is_run_where_the_policy_says_who_may_see_the_model(also, own, allowed):
    asked = nested(RELAY | also)
    if allowed:
        return check_terms(asked, policy(**own), HASH)
    with pytest.raises(PolicyRefusal, match=r"site munich refuses: aggregation\.(name|sealed)="):
        check_terms(asked, policy(**own), HASH)


def test_a_private_run_begins_with_other_weights_where_the_policy_lists_some():
    wishes = PRIVATE | {"model.weights": "model.safetensors"}
    check_terms(nested(wishes), policy(initial_weights=[HASH]), HASH)
    without = {"model.weights": "model.safetensors", "aggregation.name": "secure"}
    check_terms(nested(without), policy(), HASH)
    check_terms(nested(without), policy(allow_weights="known", initial_weights=[HASH]), HASH)


@pytest.mark.parametrize(
    ("own", "mode"),
    [
        ({"allow_relay": "yes"}, "none"),
        ({"allow_relay": "private", "max_epsilon": 3.0}, "dp_sgd"),
    ],
)
def test_single_updates_between_models_are_a_matter_of_allow_relay(own, mode):
    wishes = LATER | {"privacy.mode": mode, "aggregation.buffer": 1}
    check_terms(nested(wishes), policy(**ANY_UPDATE, **own), HASH)
    with pytest.raises(PolicyRefusal, match=r"aggregation\.buffer=1; expected at least 3, and fed"):
        check_terms(nested(wishes), policy(**ANY_UPDATE, **own | {"allow_relay": "no"}), HASH)
    few = wishes | {"aggregation.buffer": 3, "federation.min_sites": 2}  # takes what is there
    with pytest.raises(PolicyRefusal, match=r"aggregation\.buffer=3; expected at least 3, and fed"):
        check_terms(nested(few), policy(min_sites=1, **ANY_UPDATE), HASH)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.key)
@pytest.mark.parametrize("rubbish", ["x", -1, [], {}, 1.5, "true", None, "${oc.env:HOME}"])
def test_what_has_another_type_is_never_good_enough(term, rubbish):
    # of their own type, and left to the site or with nothing in it
    allowed = [("data.columns", {}), ("data.classes", []), ("strategy.options", {})]
    if (term.key, rubbish) in allowed:
        return
    also = IN_THE_SUM | {"training.batch_size": 1}
    with pytest.raises(PolicyRefusal):
        check_terms(nested(also | {term.key: rubbish}), policy(max_epsilon=1.0), HASH)


@pytest.mark.parametrize("section", [None, [], "secure", 1, {"name": "Secure"}, {"name": True}])
def test_a_section_of_another_kind_does_not_turn_a_check_off(section):
    wanted = {"federation": {"min_sites": 3}, "aggregation": section}
    with pytest.raises(PolicyRefusal, match=r"aggregation\.name="):
        check_terms(wanted, policy(), HASH)


def test_a_key_that_is_left_out_has_the_default_that_the_bundle_would_give_it():
    assert wish({}, "aggregation.min_survivors") == Experiment().aggregation.min_survivors
    with pytest.raises(PolicyRefusal, match=r"aggregation\.min_survivors=3; expected at l"):
        check_terms(nested(SECURE), policy(min_survivors=4), HASH)


def test_where_noise_pays_for_it_a_run_may_go_on_with_whoever_is_there():
    wishes = PRIVATE | {"aggregation.allow_other_survivors": True}
    check_terms(nested(wishes), policy(max_epsilon=3.0), HASH)
    check_terms(nested(SECURE | wishes), policy(allow_other_survivors=True), HASH)


def test_a_sparse_graph_has_floors_of_its_own():
    own = {"allow_sparse_graph": True, "sparse_min_survivors": 50, "sparse_max_colluding": 5}
    sparse = SECURE | {"aggregation.degree": 32, "aggregation.max_colluding": 5}
    check_terms(nested(sparse | {"aggregation.min_survivors": 50}), policy(**own), HASH)
    for key, low in (("min_survivors", 49), ("max_colluding", 4)):
        enough = sparse | {"aggregation.min_survivors": 50} | {f"aggregation.{key}": low}
        with pytest.raises(PolicyRefusal, match=rf"{key}={low}; expected at least .*sparse"):
            check_terms(nested(enough), policy(**own), HASH)


def test_the_run_names_the_bundle_that_came():
    check_terms(nested(SECURE | {BUNDLE: HASH}), policy(), HASH)
    with pytest.raises(PolicyRefusal, match=r"deployment\.bundle='cd.*the bundle that came"):
        check_terms(nested(SECURE | {BUNDLE: "cd" * 32}), policy(), HASH)


def test_a_long_value_is_repeated_in_part_and_in_ascii():
    asked = nested(SECURE | {"data.patient_pattern": "\x1b[2Jä" * 1000})
    with pytest.raises(PolicyRefusal) as refusal:
        check_terms(asked, policy(), HASH)
    assert len(str(refusal.value)) < 300
    assert str(refusal.value).isascii()
    assert "\x1b" not in str(refusal.value)


def test_the_threat_model_has_a_row_for_each_key():
    text = THREAT_MODEL.read_text()
    for key in (*(term.key for term in TERMS), BUNDLE):
        assert f"| `{key}` |" in text, f"{key} has no row"


def test_another_roster_than_the_sites_is_refused_with_what_to_do(tmp_path):
    federation = provision(Plan("fl", NAMES, "127.0.0.1", 9), tmp_path / "fl")
    own = policy(folder=federation.kits["munich"])

    def asked(members, **further):
        config = nested({"aggregation.name": "secure", "deployment.members": members, **further})
        check_terms(config, own, HASH)

    def digest():
        return members_digest({s.name: s.identity_key for s in folder.roster.sites})

    folder = FederationFolder(federation.folder)
    asked(digest())
    asked("")
    folder.add(["rome"], min_sites=2)
    for members in (digest(), "ab" * 32, 7, None, ["x"]):
        with pytest.raises(PolicyRefusal, match="the coordinator's roster is not the one here"):
            asked(members)
    (federation.kits["munich"] / "roster.yaml").write_text("sites: [7]")
    with pytest.raises(PolicyRefusal, match="its roster cannot be read"):
        asked(digest())
    open_run = policy(folder=own.folder, require_secure_aggregation=False)
    check_terms(nested({"aggregation.name": "plain", "deployment.members": "x"}), open_run, HASH)
