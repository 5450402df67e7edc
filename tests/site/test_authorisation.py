from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.authorisation import Request, UnknownBundle, judge
from primia_flwr.site.bundle.contents import sha256
from primia_flwr.site.policy import SitePolicy
from tests.site.bundle_maker import make_bundle

BUNDLE = make_bundle()
HASH = sha256(BUNDLE)
POLICY = SitePolicy(
    site="munich",
    superlink="fl.example.org:9391",
    approved_bundles=[HASH],
    allowed_experiments=["pneumonia"],
    allowed_messages=["train", "query.statistics"],
    min_sites=3,
    require_secure_aggregation=False,
)
REQUEST = Request(
    bundle=BUNDLE,
    claimed_hashes=(HASH, HASH),
    app_id="tests/light-app",
    app_version="1.0.0",
    run_task="flwr-serverapp",
    message_type="train",
    run_config={"config": "name: pneumonia\nfederation:\n  min_sites: 3\n"},
)


def config(text: str) -> Request:
    return replace(REQUEST, run_config={"config": text})


def test_what_is_allowed_is_admitted() -> None:
    admission = judge(REQUEST, POLICY)
    assert admission.experiment == "pneumonia"
    assert admission.bundle.sha256 == HASH
    judge(replace(REQUEST, message_type="train.head"), POLICY)
    judge(replace(REQUEST, message_type="query.statistics"), POLICY)
    judge(config("name: x\nfederation: {min_sites: 9}"), replace(POLICY, allowed_experiments=["*"]))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (replace(REQUEST, run_task="flwr-agentapp"), "task 'flwr-agentapp'"),
        (replace(REQUEST, claimed_hashes=(HASH, "00" * 32)), "not the one that the run names"),
        (replace(REQUEST, app_id="tests/other"), "the run names the app 'tests/other'"),
        (replace(REQUEST, app_id="../x/y"), "the run names the app"),
        (replace(REQUEST, app_version="1.0.1"), "1.0.1"),
        (replace(REQUEST, message_type="evaluate"), "message 'evaluate'"),
        (replace(REQUEST, message_type="query"), "message 'query'"),
        (replace(REQUEST, message_type="query.images"), "message 'query.images'"),
        (replace(REQUEST, run_config={}), "no readable experiment"),
        (replace(REQUEST, run_config={"config": 3}), "no readable experiment"),
        (config(""), "no readable experiment"),
        (config("a: " + "x" * 1_000_001), "no readable experiment"),
        (config("- a"), "expected YAML"),
        (config("name: [pneumonia"), "not valid YAML"),
        (config("name: pneumonia\nname: spy\nfederation: {min_sites: 3}"), "stands twice"),
        (config("name: spy\nfederation: {min_sites: 3}"), "experiment 'spy'; allowed here: pneu"),
        (config("name: '*'\nfederation: {min_sites: 3}"), "experiment '*'"),
        (config("federation: {min_sites: 3}"), "experiment None"),
        (config("name: pneumonia"), "federation.min_sites=2; expected at least 3"),
        (config("name: pneumonia\nfederation: {min_sites: 2}"), "expected at least 3"),
        (config("name: pneumonia\nfederation: {min_sites: true}"), "min_sites=True"),
        (config("name: pneumonia\nfederation: {min_sites: '9'}"), "min_sites='9'"),
        (config("name: pneumonia\nfederation: 3"), "min_sites=2; expected at least 3"),
        (config("a: !!python/object/apply:os.getcwd []"), "line 1 has a tag"),
        (config("a: &a 1\nb: *a"), "line 1 has an anchor or alias"),
        (config("name: ${oc.env:HOME}"), "an interpolation"),
        (config("<<: {name: pneumonia}"), "a merge key"),
        (config("1: x\n0x1: y"), "a key that is not text"),
    ],
)
def test_everything_else_is_refused_by_name(request_: Request, sentence: str) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        judge(request_, POLICY)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("site munich refuses: ")
    assert len(str(caught.value)) <= 300
    assert str(caught.value).isprintable()


def test_unknown_bundle_is_refused_before_it_is_looked_into() -> None:
    garbage = b"not a zip file"
    request = replace(REQUEST, bundle=garbage, claimed_hashes=(sha256(garbage),))
    with pytest.raises(UnknownBundle, match=sha256(garbage)):
        judge(request, POLICY)


@pytest.mark.parametrize(
    ("aggregation", "allowed"),
    [("{name: secure}", True), ("{name: plain}", False), ("{}", False), ("secure", False)],
)
def test_a_site_insists_on_secure_aggregation_unless_its_policy_says_otherwise(
    aggregation, allowed
):
    default = SitePolicy(site="munich", superlink="fl.example.org:9391")
    policy = replace(POLICY, require_secure_aggregation=default.require_secure_aggregation)
    request = config(f"name: pneumonia\nfederation: {{min_sites: 3}}\naggregation: {aggregation}")
    if allowed:
        judge(request, policy)
    else:
        with pytest.raises(PolicyRefusal, match="the coordinator sees single updates"):
            judge(request, policy)
    judge(request, POLICY)


_NAMED = "name: pneumonia\nfederation: {min_sites: 3}\nprivacy: "


@pytest.mark.parametrize(
    "privacy", ["", "{}", "{mode: none}", "{mode: dp}", "dp_sgd", "{mode: []}"]
)
def test_with_a_ceiling_only_private_runs_are_admitted(privacy: str) -> None:
    policy = replace(POLICY, max_epsilon=3.0)
    with pytest.raises(PolicyRefusal, match=r"max_epsilon=3.*has no epsilon"):
        judge(config(_NAMED + privacy), policy)
    judge(config(_NAMED + privacy), POLICY)


@pytest.mark.parametrize("mode", ["dp_sgd", "dp_aggregate", "dp_sgd_shared"])
def test_private_runs_pass_the_gate_to_the_ledger(mode: str) -> None:
    judge(config(f"{_NAMED}{{mode: {mode}}}"), replace(POLICY, max_epsilon=3.0))


SEARCH = (
    "name: pneumonia\nfederation: {min_sites: 3}\n"
    "search:\n  population: 9\n  space:\n"
    "    training.learning_rate: {low: 0.001, high: 0.1}\n"
)


def test_what_a_search_may_vary_is_told_before_any_of_its_code_runs() -> None:
    assert judge(config(SEARCH), POLICY).varies == ("training.learning_rate",)
    assert judge(REQUEST, POLICY).varies == ()
    off = SEARCH.replace("population: 9", "population: 0")
    assert judge(config(off), POLICY).varies == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SEARCH.replace("training.learning_rate", "strategy.options.tau"), "cannot vary inside"),
        (SEARCH.replace("learning_rate", "lerning_rate"), "is no key"),
        (SEARCH.replace("low: 0.001", "low: 1"), "expected low below high"),
        (SEARCH.replace("population: 9", "population: many"), "its search cannot be read"),
        (SEARCH + "  eta: 3\n" + "tail: 1\nsearch: 3\n", "stands twice"),
        ("name: pneumonia\nfederation: {min_sites: 3}\nsearch: 3\n", "its search cannot be read"),
        ("name: pneumonia\nfederation: {min_sites: 3}\nsearch: {population: 9}\n", "is empty"),
        (SEARCH.replace("low: 0.001", '"' + r"l\x1b" * 190 + '": 1'), "search.space: "),
        (SEARCH.replace("{low: 0.001, high: 0.1}", "[[[[[]]]]]"), "search.space: "),
        (SEARCH.replace("{low: 0.001, high: 0.1}", "{log: {}}"), "search.space: "),
    ],
)
def test_a_search_that_cannot_be_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(PolicyRefusal, match=sentence) as caught:
        judge(config(text), POLICY)
    assert len(str(caught.value)) <= 300
    assert str(caught.value).isprintable()


def test_an_approved_bundle_that_cannot_be_read_is_refused() -> None:
    content = make_bundle({"light.so": "1"})
    digest = sha256(content)
    request = replace(REQUEST, bundle=content, claimed_hashes=(digest, digest))
    with pytest.raises(
        PolicyRefusal, match=r"site munich refuses: bundle has the entry .*light\.so"
    ):
        judge(request, replace(POLICY, approved_bundles=[digest]))


def test_a_refusal_of_unknown_code_tells_the_whole_hash() -> None:
    with pytest.raises(UnknownBundle, match=f"bundle {HASH} is not approved here"):
        judge(REQUEST, replace(POLICY, approved_bundles=[]))


@given(st.text(max_size=100), st.text(max_size=40))
def test_any_message_is_admitted_or_refused_in_one_short_line(text: str, name: str) -> None:
    for request in (config(text), replace(REQUEST, message_type=name, app_id=name, run_task=name)):
        try:
            admission = judge(request, POLICY)
        except PolicyRefusal as refusal:
            said = str(refusal)
        else:
            said = admission.experiment
        assert len(said) <= 300
        assert said.isprintable()
