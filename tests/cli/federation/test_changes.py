"""The verbs by which a federation changes, as its coordinator and its hospitals type them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from primia_flwr.cli.federation import changes
from primia_flwr.cli.main import run
from primia_flwr.errors import FederationError
from primia_flwr.provisioning.federation import Federation
from primia_flwr.provisioning.roster import load_roster
from tests.provisioning.test_federation_changes import shorten_ca


class Typed:
    """A terminal: the exit code, the JSON line, and what stood there."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> tuple[dict[str, Any], str]:
        assert run(list(words)) == code
        caught = self._capsys.readouterr()
        lines = [line for line in caught.out.splitlines() if line.startswith("{")]
        return (json.loads(lines[-1]) if lines else {}), caught.out + caught.err


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Typed:
    """Return a terminal in the coordinator's folder, with a SuperLink that is not there."""
    monkeypatch.chdir(tmp_path)
    typed = Typed(capsys)
    typed("provision", "sites=[munich,paris,london]", "server=127.0.0.1", "port=9")
    return typed


FOLDER = Path("federations/fl")


def test_a_site_comes_goes_and_gets_other_keys(typed: Typed) -> None:
    found, text = typed("federation", "add", "sites=[rome]")
    assert found["sites"] == ["munich", "paris", "london", "rome"]
    assert Path(found["kits"]["rome"]).is_file()
    assert "primia site roster new=roster.yaml" in text
    assert "primia federation status name=fl register=true" in text
    mark = load_roster(FOLDER / "roster.yaml").sites[3].identity_fingerprint
    site = f"site={FOLDER}/kit-munich/site.yaml"
    shown, text = typed("site", "roster", f"new={FOLDER}/roster.yaml", site)
    assert (shown["came"], shown["taken_in"]) == ({"rome": mark}, False)
    assert f"'compared=[{mark}]'" in text
    taken, _ = typed("site", "roster", f"new={FOLDER}/roster.yaml", site, f"compared=[{mark}]")
    assert taken["taken_in"] is True
    left, text = typed("federation", "revoke", "sites=[rome,paris]", code=1)
    assert (left["sites"], left["ok"]) == (["munich", "london"], False)
    assert "secure aggregation needs three" in text
    (FOLDER / "kit-london").rename("their-kit")
    (FOLDER / "kit-london.zip").unlink()
    again, text = typed("federation", "reissue", "sites=[london]")
    assert list(again["kits"]) == ["london"]
    assert "its own site.yaml and state/ stay" in text


def test_certificates_are_renewed_and_the_sites_told_what_to_do(typed: Typed) -> None:
    found, text = typed("federation", "renew", "days=30")
    assert found["ca_renewed"] is False
    assert "The sites have nothing to do" in text
    assert (
        "That is sooner than before: the old one was, to 20" in text
    )  # provision gave it 730 days
    kits = {name: FOLDER / f"kit-{name}" for name in ("munich", "paris", "london")}
    shorten_ca(Federation(FOLDER, load_roster(FOLDER / "roster.yaml"), kits), days=3)
    found, text = typed("federation", "renew")
    assert found["ca_renewed"] is True
    assert "sooner" not in text
    assert "primia site ca ca.crt" in text
    site = f"site={kits['munich']}/site.yaml"
    _, text = typed("site", "ca", f"{FOLDER}/ca.crt", site)
    assert "no fingerprint has to be compared" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("federation", "add"), "sites=[]; expected different names"),
        (("federation", "add", "sites=[munich]"), "is on the roster already"),
        (("federation", "revoke", "sites=[oslo]"), "expected sites of the roster"),
        (("federation", "renew", "days=0"), "days=0"),
        (("federation", "renew", "name=no"), "federations/conf/deployment/no.yaml"),
        (("site", "ca", "site=federations/fl/kit-munich/site.yaml"), "new=''; expected the file"),
        (("site", "roster", "left=[a]"), "expected its file, e.g. new=roster.yaml"),
        (("federation", "status"), "cannot be reached"),
    ],
)
def test_a_mistake_is_one_sentence(typed: Typed, words: tuple[str, ...], sentence: str) -> None:
    _, text = typed(*words, code=2)
    assert text.startswith("error: ")
    assert sentence in text
    assert len(text.strip().splitlines()) == 1


def test_what_the_superlink_does_not_know_is_told(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def registered(superlink: str, ca: Path, roster: Any, *, revoked: list[str]) -> None:
        told.append((roster.names(), len(revoked)))

    monkeypatch.setattr(changes, "register_sites", registered)
    found, text = typed("federation", "revoke", "sites=[paris]")
    assert told == [(["munich", "london"], 1)]
    assert found["superlink"] == "up to date"
    assert "The SuperLink knows of it already" in text

    def refuses(*_: Any, **__: Any) -> None:
        raise FederationError("superlink=x answered 500; expected another")

    monkeypatch.setattr(changes, "register_sites", refuses)
    assert typed("federation", "revoke", "sites=[london]", code=1)[0]["superlink"] == (
        "superlink=x answered 500"
    )
