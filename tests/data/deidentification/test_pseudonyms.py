"""Pseudonyms: the same for every spelling and every process, none for nobody, and a key apart."""

from __future__ import annotations

import stat
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from primia_flwr.data.deidentification.identity import hours_back
from primia_flwr.data.names import key_of, own_patient
from primia_flwr.data.pseudonyms import (
    KEY_FILE,
    Pseudonyms,
    open_pseudonyms,
    private_folder,
    told_patients,
)
from primia_flwr.errors import DataError

KEYS = Pseudonyms(bytes(range(32)))


def test_a_pseudonym_is_known() -> None:
    assert KEYS.patient("P01") == "pdmaktndik6urse2d"  # HMAC-SHA256 of "...patient\0p1", base 32
    assert len(KEYS.patient("P01")) == 17
    assert KEYS.patient("P01").isalnum()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P01", "p01"), (" P01 ", "P01"), ("7", "7.0"), ("007", "7"), ("P 1", "P1"),
        ("M\u00fcller", unicodedata.normalize("NFD", "M\u00fcller")), ("\uff30\uff11", "P1"),
    ],
)  # fmt: skip
def test_spellings_of_one_name_are_one(one: str, other: str) -> None:
    assert KEYS.patient(one) == KEYS.patient(other)


@pytest.mark.parametrize("other", ["P10", "Q1", "P1.1", "PP1"])
def test_other_names_are_others(other: str) -> None:
    assert KEYS.patient("P1") != KEYS.patient(other)


@pytest.mark.parametrize("name", ["ANONYMOUS", "nan", "???", " ", "unknown"])
def test_nobody_has_none(name: str) -> None:
    assert KEYS.patient(name) == ""


def test_an_image_of_an_unknown_patient_has_its_own() -> None:
    first, second = (KEYS.patient(own_patient(path)) for path in ("a/1.png", "a/2.png"))
    assert first != second
    assert first[0] == second[0] == "i"


def test_a_pseudonym_is_one_spelling_of_itself() -> None:
    many = {KEYS.patient(f"patient {number}") for number in range(2000)}
    assert len({key_of(name) for name in many}) == 2000


def test_another_key_gives_others() -> None:
    assert Pseudonyms(b"o" * 32).patient("P1") != KEYS.patient("P1")


def test_the_key_is_not_shown() -> None:
    assert KEYS.key.hex() not in repr(KEYS)
    assert str(KEYS.key) not in repr(KEYS)


def test_one_key_however_many_make_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: open_pseudonyms(tmp_path / "private").key, range(32)))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert [path.name for path in (tmp_path / "private").iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((tmp_path / "private" / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written.*data\.cache_dir"):
        open_pseudonyms(tmp_path / "file" / "private")


def test_what_may_be_told(tmp_path: Path) -> None:
    names = ("P1", "p1", "P2")
    told = told_patients(names, synthetic=False, private=tmp_path)
    assert told[0] == told[1] != told[2]
    assert told_patients(names, synthetic=True, private=tmp_path / "none") == names
    assert not (tmp_path / "none").exists()
    assert private_folder(str(tmp_path / "cache")) == tmp_path / "private"


def test_dates_go_back_by_62_to_730_days_and_never_by_whole_ones() -> None:
    hours = [hours_back(KEYS, f"P{number}") for number in range(3000)]
    assert min(hours) > 62 * 24
    assert max(hours) < 730 * 24
    assert {back % 24 for back in hours} == set(range(1, 24))  # else a time stayed what it was
    assert hours[7] == hours_back(KEYS, "P7") != hours_back(Pseudonyms(b"o" * 32), "P7")
