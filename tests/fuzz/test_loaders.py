"""Every loader has a target, seen by running it; a few seconds of fuzzing; mistakes of before."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.loaders import discovery
from tests.fuzz.loaders.campaign import Campaign, report
from tests.fuzz.loaders.coverage import reached_by
from tests.fuzz.loaders.exclusions import REASONS, reason
from tests.fuzz.loaders.target import Made, make, names

SITES = discovery.find()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("targets")
    return {name: make(name, folder) for name in names()}


def test_every_decoding_call_is_reached_by_a_target_or_excluded_with_a_reason(
    made: dict[str, Made],
) -> None:
    reached = set[discovery.Site]()
    for target in made.values():
        reached |= reached_by(target, SITES)
    missing = [
        f"{site.file}, line {site.line}: {site.call} in {site.loader}"
        for site in SITES
        if site not in reached and not reason(site)
    ]
    assert not missing, (
        "no target reads a file through these; write one in tests/fuzz/loaders/targets/*.py:\n"
        + "\n".join(missing)
    )


def test_every_exclusion_is_of_a_loader_that_exists() -> None:
    assert REASONS.keys() <= set(discovery.loaders(SITES))


def test_a_new_loader_without_a_target_is_found(tmp_path: Path) -> None:
    module = tmp_path / "primia_flwr" / "fresh.py"
    module.parent.mkdir()
    module.write_text(
        "import json as j\nfrom yaml import safe_load as parse\n\n"
        "class Thing:\n    def load(self, path):\n        return j.loads(path.read_text())\n\n"
        "def both(raw):\n    with open('x', 'w') as f:\n        f.write('')\n"
        "    return parse(raw)\n"
    )
    found = [(site.loader, site.call, site.line) for site in discovery.find(tmp_path)]
    assert found == [
        ("primia_flwr.fresh.Thing.load", "json.loads", 6),
        ("primia_flwr.fresh.Thing.load", ".read_text", 6),
        ("primia_flwr.fresh.both", "yaml.safe_load", 11),
    ]
    assert not any(reason(site) for site in discovery.find(tmp_path))


def test_a_few_changed_inputs_of_every_loader_are_refused_or_read(made: dict[str, Made]) -> None:
    campaign = Campaign(made, random.Random(1))
    campaign.run_each(12)
    assert not campaign.findings, "\n".join(report(campaign.findings))
    counts = campaign.counts.values()
    assert sum(count.executions for count in counts) > 10 * len(made)


def test_what_is_no_refusal_is_a_finding() -> None:
    def load(raw: bytes) -> None:
        {}[raw]

    campaign = Campaign({"broken": Made(load, [b"x"])}, random.Random(1))
    campaign.run_each(20)
    ((name, kind, _),) = campaign.findings
    assert (name, kind) == ("broken", "KeyError")
