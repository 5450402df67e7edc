"""The same images have the same budget, under whatever names and in whatever layout they come.

Sums by hand: a Gaussian of noise s costs 1/s^2; somebody who is k units of a sum moves it k times
as far, which costs k^2/s^2. All of one person add up to a single Gaussian of noise 1/sqrt(sum).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from primia_flwr.errors import PrivacyBudgetError
from primia_flwr.privacy.accounting.events import Gaussian
from primia_flwr.privacy.ledger.ledger import Ledger
from tests.privacy.ledgers import charge, open_ledger

FIRST, SECOND = 10.0, 20.0  # noise of the two charges: 1/100 and 1/400
DATA = {"anna": "ab", "ben": "cd", "cleo": "ef", "dan": "gh"}


def registered(ledger: Ledger, data: dict[str, str]) -> str:
    """One name for each image; an image is a letter."""
    pairs = [(name, image) for name, images in data.items() for image in images]
    digests = [hashlib.sha256(image.encode()).hexdigest() for _, image in pairs]
    return ledger.register([name for name, _ in pairs], digests)


def epsilon(ledger: Ledger, total: float) -> float:
    """Of one Gaussian of squared inverse noise `total`, beyond any plan."""
    chosen = ledger.account.constants.filter.rdp
    return chosen.epsilon(Gaussian(noise_multiplier=total**-0.5).rdp(chosen.orders))


CASES = {
    # everybody renamed: both charges, once each
    "rename all": ({f"new {n}": i for n, i in DATA.items()}, 1 / 100 + 1 / 400),
    "rename half": ({"x": "ab", "y": "cd", "cleo": "ef", "dan": "gh"}, 1 / 100 + 1 / 400),
    # anna and ben hang together, and were two units both times
    "swap names": ({**DATA, "anna": "cd", "ben": "ab"}, 4 / 100 + 4 / 400),
    # anna was one unit, is two
    "split one in two": ({**DATA, "anna": "a", "anna2": "b"}, 1 / 100 + 4 / 400),
    "every image its own": ({image: image for image in "abcdefgh"}, 1 / 100 + 4 / 400),
    # anna and ben were two units, are one
    "merge two": ({"both": "abcd", "cleo": "ef", "dan": "gh"}, 4 / 100 + 1 / 400),
    "all in one": ({"all": "abcdefgh"}, 16 / 100 + 1 / 400),
    # one image of each is enough, and so is the name
    "images left out": ({"x": "a", "y": "d"}, 1 / 100 + 1 / 400),
    "other images, same names": ({"anna": "z"}, 1 / 100 + 1 / 400),
    # an image of anna's under another name, too: one unit of the new version
    "doubled within": ({"anna": "ab", "x": "b", "y": "z"}, 1 / 100 + 1 / 400),
    # it ties ben to anna, through somebody new
    "tied by a third": ({"x": "ac"}, 4 / 100 + 1 / 400),
    "nobody known": ({"x": "z"}, 1 / 400),
}


@pytest.mark.parametrize("case", CASES)
def test_who_comes_again_has_spent_what_was_spent(case: str, tmp_path: Path) -> None:
    data, total = CASES[case]
    with open_ledger(tmp_path, ceiling=None) as ledger:
        charge(ledger, registered(ledger, DATA), run="a", event=Gaussian(noise_multiplier=FIRST))
        again = registered(ledger, data)
        charge(ledger, again, run="b", event=Gaussian(noise_multiplier=SECOND))
        assert ledger.spent(again) == pytest.approx(epsilon(ledger, total))
    with open_ledger(tmp_path) as ledger:  # read back from the disk
        assert ledger.spent(again) == pytest.approx(epsilon(ledger, total))


@pytest.mark.parametrize("case", [case for case in CASES if case != "nobody known"])
def test_no_budget_is_fresh_for_images_that_were_used(case: str, tmp_path: Path) -> None:
    dear = Gaussian(noise_multiplier=1.8)  # epsilon 2.4
    with open_ledger(tmp_path, ceiling=3.0) as ledger:
        charge(ledger, registered(ledger, DATA), run="a", event=dear)
        again = registered(ledger, CASES[case][0])
        with pytest.raises(PrivacyBudgetError, match="ceiling 3"):
            charge(ledger, again, run="b", event=dear)
        charge(ledger, registered(ledger, {"eve": "1", "fay": "2"}), run="c", event=dear)


def test_a_chain_of_versions_hangs_together(tmp_path: Path) -> None:
    """Names, then images, then names: each shares with the one before only."""
    chain = ({"anna": "a"}, {"anna": "b"}, {"bea": "b"}, {"bea": "c"}, {"cora": "c"})
    with open_ledger(tmp_path, ceiling=None) as ledger:
        for number, data in enumerate(chain):
            event = Gaussian(noise_multiplier=10.0)
            charge(ledger, registered(ledger, data), run=str(number), event=event)
        assert ledger.spent(registered(ledger, chain[-1])) == pytest.approx(epsilon(ledger, 0.05))
        assert ledger.spent(registered(ledger, {"x": "z"})) == 0.0


def test_patients_are_told_apart_as_long_as_nothing_is_shared(tmp_path: Path) -> None:
    with open_ledger(tmp_path, ceiling=None) as ledger:
        charge(ledger, registered(ledger, {"anna": "ab"}), run="a")
        assert ledger.spent(registered(ledger, {"ben": "cd"})) == 0.0


def test_a_ledger_of_names_alone_goes_on(tmp_path: Path) -> None:
    """As older versions wrote it: known again by name, and by image from now on."""
    event = Gaussian(noise_multiplier=10.0)
    with open_ledger(tmp_path, ceiling=None) as ledger:
        charge(ledger, ledger.register(["anna", "ben"]), run="a", event=event)
        charge(ledger, registered(ledger, {"anna": "a", "ben": "b"}), run="b", event=event)
        renamed = registered(ledger, {"x": "a", "y": "b"})
        assert ledger.spent(renamed) == pytest.approx(epsilon(ledger, 2 / 100))


def test_an_image_under_two_names_is_one_unit_and_both_names_are_known(tmp_path: Path) -> None:
    event = Gaussian(noise_multiplier=10.0)
    with open_ledger(tmp_path, ceiling=None) as ledger:
        version = registered(ledger, {"anna": "ab", "ben": "bc", "cleo": "d"})
        assert ledger.account.versions[version] == 2
        charge(ledger, version, run="a", event=event)
        assert ledger.spent(version) == pytest.approx(epsilon(ledger, 1 / 100))
        for later in ({"anna": "x"}, {"ben": "y"}, {"z": "c"}):
            assert ledger.spent(registered(ledger, later)) == pytest.approx(
                epsilon(ledger, 1 / 100)
            )
