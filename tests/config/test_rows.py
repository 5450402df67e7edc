"""Rows in families: a folder below the rows' own holds some, and adds nothing to their names."""

from pathlib import Path

import pytest

from primia_flwr.config import rows
from primia_flwr.config.root import app_root
from primia_flwr.config.rows import RULES, TABLES, Table


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """A table of three rows, of which one lies in a family; `other` is a folder, but no family."""
    for number, place in enumerate(("plain", "family/inner", "other/two", "helper", "single")):
        file = tmp_path / f"rows_in_families/{place}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"ROW = {number}\n", encoding="utf-8")
    monkeypatch.setattr(rows, "app_root", lambda: tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return Table("rows_in_families", "ROW", ("none", "none"), ("helper",), families=("family",))


def test_a_row_of_a_family_is_found_by_its_own_name(table: Table) -> None:
    assert list(table) == ["inner", "plain", "single"]
    assert dict(table) == {"inner": 1, "plain": 0, "single": 4}


@pytest.mark.parametrize("name", ["two", "helper", "family.inner", "family", "other.two"])
def test_only_names_of_rows_are_choices(table: Table, name: str) -> None:
    assert name not in table
    with pytest.raises(KeyError):
        table[name]


def test_each_row_has_a_name_and_a_yaml_of_its_own() -> None:
    for table in TABLES:
        yaml = {path.stem for path in (app_root() / "conf" / table.kind[1]).glob("*.yaml")}
        assert yaml >= set(table), table.kind
    folders = [app_root() / "strategies" / family for family in ("", *RULES.families)]
    files = [path.stem for folder in folders for path in folder.glob("*.py")]
    assert sorted(set(files) - {"__init__", *RULES.others}) == list(RULES)
    assert len(files) == len(RULES) + len(RULES.others) + len(folders)
