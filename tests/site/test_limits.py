"""A site's table of what single patients allow: read right, or refused as a whole."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError
from primia_flwr.site.check import check_limits
from primia_flwr.site.limits import PatientLimits, read_limits
from primia_flwr.site.policy import parse_policy

POLICY = "site: munich\nsuperlink: fl.example.org:9391\n"


def table(folder: Path, text: str) -> Path:
    file = folder / "limits.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_who_takes_part_in_what(tmp_path: Path) -> None:
    limits = read_limits(table(tmp_path, "patient,epsilon\nAnna,0\n007,1.5\n\n'=ben,3\n"))
    assert limits.of == {"anna": 0.0, "7": 1.5, "=ben": 3.0}
    assert limits.opted_out == {"anna"}
    assert limits.limited == {"7": 1.5, "=ben": 3.0}
    assert limits.outside(private=True) == {"anna"}
    assert limits.outside(private=False) == {"anna", "7", "=ben"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "first line is nothing; expected patient,epsilon"),
        ("patient;epsilon\na;1\n", "first line is patient;epsilon"),
        ("name,epsilon\n", "first line is name,epsilon"),
        ("patient,epsilon\na,1\nA ,2\n", "line 3: A occurs twice, in any spelling"),
        ("patient,epsilon\n7,1\n007,2\n", "line 3: 007 occurs twice"),
        ("patient,epsilon\n,1\n", "line 2: ,1; expected a patient and an epsilon"),
        ("patient,epsilon\na\n", "line 2: a; expected a patient and an epsilon"),
        ("patient,epsilon\na,1,2\n", "line 2: a,1,2; expected a patient"),
        ('patient,epsilon\na,"1,5"\n', "epsilon=1,5; expected a number from 0"),
        ("patient,epsilon\na,-1\n", "epsilon=-1; expected a number from 0"),
        ("patient,epsilon\na,nan\n", "epsilon=nan; expected a number from 0"),
        ("patient,epsilon\na,inf\n", "epsilon=inf; expected a number from 0"),
        ("patient,epsilon\na,1e4\n", "epsilon=1e4; expected a number from 0"),
        ("patient,epsilon\na,\n", "epsilon=; expected a number from 0"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(
    text: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_limits(table(tmp_path, text))
    assert sentence in str(refused.value)
    assert str(tmp_path / "limits.csv") in str(refused.value)


def test_a_table_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"limits\.csv"):
        read_limits(tmp_path / "limits.csv")
    (tmp_path / "limits.csv").write_bytes(b"patient,epsilon\n\xff,1\n")
    with pytest.raises(ConfigError, match=r"limits\.csv"):
        read_limits(tmp_path / "limits.csv")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.integers(1, 10**6), st.floats(0, 1000), max_size=8))
def test_what_is_written_is_read(tmp_path: Path, given_limits: dict[int, float]) -> None:
    lines = [f"{number:08d},{limit!r}" for number, limit in given_limits.items()]
    found = read_limits(table(tmp_path, "\n".join(["patient,epsilon", *lines])))
    assert found == PatientLimits({str(number): limit for number, limit in given_limits.items()})


def test_the_policy_names_the_table_and_site_check_shows_it(tmp_path: Path) -> None:
    policy = parse_policy(POLICY + "patient_limits: limits.csv\n", folder=tmp_path)
    (missing,) = check_limits(policy)
    assert not missing.ok
    table(tmp_path, "patient,epsilon\na,0\nb,0\nc,2\n")
    (found,) = check_limits(policy)
    assert found.ok
    assert found.found == "2 take part in nothing, 1 in private runs within their limit"
    assert check_limits(parse_policy(POLICY, folder=tmp_path)) == []


def test_limits_of_patients_are_nothing_to_a_ledger_of_images(tmp_path: Path) -> None:
    text = POLICY + "patient_limits: limits.csv\nprivacy_unit: image\n"
    with pytest.raises(ConfigError, match="with privacy_unit=image"):
        parse_policy(text, folder=tmp_path)
