"""Charges by patient, the ceiling, witnesses, repeated rounds, and refusals that write nothing."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, DataError, PrivacyBudgetError
from primia_flwr.privacy.accounting.events import Gaussian, SampledGaussian, SkellamSum
from primia_flwr.privacy.ledger.chain import parse
from primia_flwr.privacy.ledger.file import LEDGER
from primia_flwr.privacy.ledger.ledger import Ledger
from primia_flwr.privacy.ledger.view import read_ledger
from tests.privacy.ledgers import DELTA, NOISY, PATIENTS, charge, fill, open_ledger


def gaussians(ledger: Ledger, *noise: float) -> float:
    """Epsilon by the Rényi criteria of Gaussians together: one with the summed precision."""
    together = 1 / math.sqrt(sum(1 / value**2 for value in noise))
    chosen = ledger.account.constants.filter.rdp
    return chosen.epsilon(Gaussian(noise_multiplier=together).rdp(chosen.orders))


def test_spending_is_added_up_by_patient(tmp_path: Path) -> None:
    """Anna is in all three versions, ben in the first two, cleo in the last one only."""
    with open_ledger(tmp_path) as ledger:
        versions = [ledger.register(who) for who in (["anna", "ben"], ["anna", "ben", "dan"])]
        versions.append(ledger.register(["anna", "cleo"]))
        for number, (version, noise) in enumerate(zip(versions, (10.0, 20.0, 30.0), strict=True)):
            event = Gaussian(noise_multiplier=noise)
            charge(ledger, version, run=f"run-{number}", event=event)
        everything = gaussians(ledger, 10.0, 20.0, 30.0)
        assert [ledger.spent(v) for v in versions] == pytest.approx([everything] * 3)
        only_cleo = ledger.register(["cleo"])
        only_ben = ledger.register(["ben"])
        assert ledger.spent(only_cleo) == pytest.approx(gaussians(ledger, 30.0))
        assert ledger.spent(only_ben) == pytest.approx(gaussians(ledger, 10.0, 20.0))
        assert ledger.spent(ledger.register(["eve"])) == 0.0
        chosen = ledger.account.constants.filter
        assert chosen.epsilon(ledger.most_used()) == pytest.approx(everything)


def test_disjoint_patients_do_not_pay_for_each_other(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        one, other = ledger.register(["anna"]), ledger.register(["ben"])
        charge(ledger, one, run="a")
        charge(ledger, other, run="b")
        assert ledger.spent(one) == pytest.approx(gaussians(ledger, 20.0))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from("abcdef"), min_size=1), st.sampled_from([8.0, 20.0, 50.0])
        ),
        min_size=1,
        max_size=6,
    )
)
def test_spending_against_patients_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, charges: list[tuple[set[str], float]]
) -> None:
    with open_ledger(tmp_path_factory.mktemp("ledger"), ceiling=None) as ledger:
        for number, (who, noise) in enumerate(charges):
            event = Gaussian(noise_multiplier=noise)
            charge(ledger, ledger.register(who), run=str(number), event=event)
        for who, _ in charges:
            worst = max(
                gaussians(ledger, *(noise for others, noise in charges if patient in others))
                for patient in who
            )
            assert ledger.spent(ledger.register(who)) == pytest.approx(worst)


def test_ceiling_refuses_before_anything_is_written(tmp_path: Path) -> None:
    with open_ledger(tmp_path, ceiling=1.0) as ledger:
        version = ledger.register(PATIENTS)
        allowed, everybody = 0, {frozenset([(version, 1)]): 3}
        while ledger.account.epsilon(version, everybody, [NOISY]) <= 1.0:
            assert charge(ledger, version, instance=allowed).epsilon <= 1.0
            allowed += 1
        with pytest.raises(PrivacyBudgetError, match=r"would be 1\.\d+ \(spent 0\.9"):
            charge(ledger, version, instance=allowed)
        before = (tmp_path / LEDGER).read_bytes()
        assert allowed == len(ledger.charges()) == ledger.head().seq - 2
        plan = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=1000)
        with pytest.raises(PrivacyBudgetError, match="most used patient"):
            ledger.afford(version, run="run-1", events=[plan])
        assert ledger.afford(version, run="run-1", events=[]) == ledger.spent(version)
        assert (tmp_path / LEDGER).read_bytes() == before


def test_a_plan_is_refused_as_a_whole(tmp_path: Path) -> None:
    with open_ledger(tmp_path, ceiling=1.0) as ledger:
        version = ledger.register(PATIENTS)
        ledger.afford(version, run="r", events=[NOISY])
        with pytest.raises(PrivacyBudgetError):
            ledger.afford(version, run="r", events=[NOISY] * 100)


def test_other_patients_may_still_be_asked(tmp_path: Path) -> None:
    with open_ledger(tmp_path, ceiling=1.0) as ledger:
        used = ledger.register(["anna"])
        charge(ledger, used, run="a", event=Gaussian(noise_multiplier=5.0))
        both = ledger.register(["anna", "ben"])
        with pytest.raises(PrivacyBudgetError):
            charge(ledger, both, run="b", event=Gaussian(noise_multiplier=5.0))
        charge(ledger, ledger.register(["ben"]), run="c", event=NOISY)


def test_raised_ceiling_counts_and_is_written_down(tmp_path: Path) -> None:
    big = Gaussian(noise_multiplier=4.0)
    with open_ledger(tmp_path, ceiling=0.5) as ledger:
        version = ledger.register(PATIENTS)
        with pytest.raises(PrivacyBudgetError):
            charge(ledger, version, event=big)
    with open_ledger(tmp_path, ceiling=5.0) as ledger:
        charge(ledger, version, event=big)
    with open_ledger(tmp_path, ceiling=None) as ledger:
        charge(ledger, version, event=big)
        assert [c.ceiling for c in ledger.charges()] == [5.0, None]


def test_repeated_round_is_answered_from_what_was_kept(tmp_path: Path) -> None:
    asked = {"run": "run-1", "instance": 4, "request": b"model, survivors a b c"}
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        assert ledger.stored(**asked) is None  # type: ignore[arg-type]
        receipt = ledger.charge(version, event=NOISY, what="x", **asked)  # type: ignore[arg-type]
        assert ledger.stored(**asked) is None, "charged, but a crash lost the output"  # type: ignore[arg-type]
        ledger.store(receipt, b"noisy")
    with open_ledger(tmp_path) as ledger:
        spent = ledger.spent(version)
        assert ledger.stored(**asked) == b"noisy"  # type: ignore[arg-type]
        for other in ({"request": b"model, survivors a b"}, {"instance": 5}, {"run": "run-2"}):
            assert ledger.stored(**{**asked, **other}) is None  # type: ignore[arg-type]
        assert ledger.spent(version) == spent
        charge(ledger, version, instance=4, request=b"model, survivors a b")
        assert ledger.spent(version) > spent


def test_only_the_newest_outputs_of_a_run_are_kept(tmp_path: Path) -> None:
    fill(tmp_path, rounds=6)
    with open_ledger(tmp_path) as ledger:
        kept = [ledger.stored(run="run-1", instance=n, request=b"model 1") for n in range(1, 7)]
    assert kept == [None, None, None, b"noise 4", b"noise 5", b"noise 6"]


def test_changed_output_is_not_sent(tmp_path: Path) -> None:
    fill(tmp_path, rounds=1)
    (file,) = (tmp_path / "releases").glob("*.release")
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with (
        open_ledger(tmp_path) as ledger,
        pytest.raises(DataError, match="delete the file, and the round is charged again"),
    ):
        ledger.stored(run="run-1", instance=1, request=b"model 1")


def test_restored_backup_is_behind_its_witness(tmp_path: Path) -> None:
    fill(tmp_path / "now", rounds=2)
    shutil.copytree(tmp_path / "now", tmp_path / "backup")
    with open_ledger(tmp_path / "now") as ledger:
        version = ledger.charges()[0].version
        charge(ledger, version, instance=3)
        seen = ledger.head()
        ledger.check_witness(0, "")
        ledger.check_witness(seen.seq, seen.hash)
        ledger.check_witness(2, _hash_of(tmp_path / "now", 2))
    with open_ledger(tmp_path / "backup") as ledger:
        with pytest.raises(DataError, match="an old copy was put back"):
            ledger.check_witness(seen.seq, seen.hash)
        charge(ledger, version, instance=3)  # went on from the old copy, without asking
        with pytest.raises(DataError, match="it went on from an old copy"):
            ledger.check_witness(seen.seq, seen.hash)


def _hash_of(folder: Path, seq: int) -> str:
    entries, _ = parse((folder / LEDGER).read_bytes(), folder / LEDGER)
    return entries[seq - 1].hash


def test_a_witness_of_answers_counts_no_change_of_the_data(tmp_path: Path) -> None:
    for folder, versions in ((tmp_path / "one", 1), (tmp_path / "many", 5)):
        with open_ledger(folder) as ledger:
            for number in range(versions):
                version = ledger.register([*PATIENTS, f"new {number}"])
            assert ledger.answers() == (0, "0" * 64)
            receipts = [charge(ledger, version, instance=n) for n in (1, 2)]
            assert ledger.answers() == (2, receipts[1].head)
            ledger.check_answers(0, "")
            ledger.check_answers(1, receipts[0].head)
            ledger.check_answers(2, receipts[1].head)
            with pytest.raises(DataError, match="paid for 2 answers, but a witness has seen"):
                ledger.check_answers(3, receipts[1].head)
            with pytest.raises(DataError, match="it went on from an old copy"):
                ledger.check_answers(1, receipts[1].head)


def test_ledger_begun_anew_is_behind_its_witness(tmp_path: Path) -> None:
    fill(tmp_path / "old")
    fill(tmp_path / "new")
    with open_ledger(tmp_path / "old") as ledger:
        seen = ledger.head()
    with open_ledger(tmp_path / "new") as ledger, pytest.raises(DataError, match="another ledger"):
        ledger.check_witness(seen.seq, seen.hash)


def test_data_that_grew_within_a_run_is_refused(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        charge(ledger, ledger.register(PATIENTS), run="run-1")
        grown = ledger.register([*PATIENTS, "dan"])
        with pytest.raises(DataError, match="3 patients then, 4 now; its sampling rate"):
            charge(ledger, grown, run="run-1", instance=2)
        charge(ledger, grown, run="run-2")


def test_no_ledger_begins_with_a_delta_that_is_too_large_for_its_units(tmp_path: Path) -> None:
    """It could never be changed again."""
    with pytest.raises(ConfigError, match="delta < 1/100"):
        open_ledger(tmp_path, delta=0.01, units=100)
    with open_ledger(tmp_path, delta=0.001, units=100) as ledger:
        assert ledger.account.constants.filter.delta == 0.001


def test_delta_not_below_one_over_n_is_refused(tmp_path: Path) -> None:
    with open_ledger(tmp_path, delta=0.01) as ledger:
        ledger.register([f"p{n}" for n in range(99)])
        with pytest.raises(ConfigError, match="delta < 1/100"):
            ledger.register([f"p{n}" for n in range(100)])
        assert ledger.head().seq == 2


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"delta": 0.0}, "delta=0"),
        ({"delta": 1.0}, "delta=1"),
        ({"ceiling": 0.0}, "ceiling=0"),
        ({"ceiling": -1.0}, "ceiling=-1"),
        ({"ceiling": math.nan}, "ceiling=nan"),
        ({"unit": "scan"}, "unit=scan"),
        ({"site": ""}, "site=''"),
    ],
)
def test_bad_constants_begin_nothing(tmp_path: Path, given: dict[str, float], named: str) -> None:
    with pytest.raises((ConfigError, DataError), match=named):
        open_ledger(tmp_path / "new", **given)
    assert not (tmp_path / "new" / LEDGER).exists() or not (tmp_path / "new" / LEDGER).read_bytes()


@pytest.mark.parametrize("given", [{"delta": 1e-5}, {"unit": "image"}, {"site": "paris"}])
def test_constants_cannot_change(tmp_path: Path, given: dict[str, float]) -> None:
    fill(tmp_path)
    with pytest.raises(ConfigError, match="cannot change"):
        open_ledger(tmp_path, **given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"run": ""}, "run=''"),
        ({"run": "two\nlines"}, "run="),
        ({"instance": -1}, "instance=-1"),
        ({"instance": True}, "instance=True"),
    ],
)
def test_bad_charges_write_nothing(tmp_path: Path, given: dict[str, int], named: str) -> None:
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        with pytest.raises(DataError, match=named):
            charge(ledger, version, **given)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="is not in"):
            charge(ledger, "0" * 64)
        assert ledger.head().seq == 2


@pytest.mark.parametrize("units", [[], [""], ["anna", ""]])
def test_units_without_names_are_refused(tmp_path: Path, units: list[str]) -> None:
    with open_ledger(tmp_path) as ledger, pytest.raises(DataError, match="one name for each"):
        ledger.register(units)


def test_same_units_are_the_same_version(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        one = ledger.register(["anna", "ben"])
        assert ledger.register(["ben", "anna", "ben"]) == one
        assert ledger.head().seq == 2


def test_no_name_is_written_anywhere(tmp_path: Path) -> None:
    fill(tmp_path, patients=["Anna Example", "Ben Sample"])
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"Anna" not in file.read_bytes()


def test_lost_or_other_key_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    key = tmp_path / "unit.key"
    good = key.read_bytes()
    key.unlink()
    with pytest.raises(DataError, match=r"unit\.key cannot be read"):
        open_ledger(tmp_path)
    key.write_bytes(bytes(32))
    with pytest.raises(DataError, match="not the key with which the ledger began"):
        open_ledger(tmp_path)
    key.write_bytes(good[:-1])
    with pytest.raises(DataError, match="31 bytes"):
        open_ledger(tmp_path)
    key.write_bytes(good)
    open_ledger(tmp_path).close()


def test_changed_or_lost_version_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    (file,) = (tmp_path / "data").glob("*.units")
    content = file.read_bytes()
    for damage in (content[33:], content.replace(content[:1], b"f", 1) + b"", None):
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage)
        if damage == content:
            continue
        with open_ledger(tmp_path) as ledger, pytest.raises(DataError, match="from a backup"):
            charge(ledger, ledger.charges()[0].version)


def test_deleted_ledger_does_not_begin_anew(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / LEDGER).unlink()
    with pytest.raises(DataError, match="was cut off"):
        open_ledger(tmp_path)
    (tmp_path / "head.json").unlink()
    with pytest.raises(DataError, match=r"missing or empty, but unit\.key is there"):
        open_ledger(tmp_path)


def test_reading_changes_nothing_and_charges_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with read_ledger(tmp_path) as ledger:
        assert len(ledger.charges()) == 3
        assert not {"register", "charge", "store", "plan", "cover"} & set(dir(ledger))
        with pytest.raises(DataError, match="not open for writing"):
            ledger._file.append("data", {})
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_every_mechanism_is_read_back(tmp_path: Path) -> None:
    events = (
        SampledGaussian(noise_multiplier=2, sampling_rate=0.01, steps=5),
        SkellamSum(l2_sensitivity=10, l1_sensitivity=50, variance=1e6, rounds=1),
        NOISY,
    )
    with open_ledger(tmp_path) as ledger:
        version = ledger.register(PATIENTS)
        for number, event in enumerate(events):
            charge(ledger, version, instance=number, event=event)
        spent = ledger.spent(version)
    with open_ledger(tmp_path) as ledger:
        assert tuple(c.event for c in ledger.charges()) == events
        assert ledger.spent(version) == spent
        assert ledger.account.constants.filter.delta == DELTA


def test_release_that_cannot_be_read_is_not_sent(tmp_path: Path) -> None:
    fill(tmp_path, rounds=1)
    (file,) = (tmp_path / "releases").glob("*.release")
    file.unlink()
    file.mkdir()
    with open_ledger(tmp_path) as ledger, pytest.raises(DataError, match="cannot be read"):
        ledger.stored(run="run-1", instance=1, request=b"model 1")


def test_importing_a_ledger_is_light() -> None:
    """A SuperNode starts a process for every message: scipy and the like come when needed."""
    heavy = ("dp_accounting", "scipy", "torch", "matplotlib", "flwr")
    code = f"import sys, primia_flwr.privacy.ledger.ledger; print(set(sys.modules) & set({heavy}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
