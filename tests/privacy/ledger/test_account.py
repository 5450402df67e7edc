"""Entries with a right hash and a wrong content, which only other software writes."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger.account import Account
from primia_flwr.privacy.ledger.chain import KINDS, Entry, parse
from primia_flwr.privacy.ledger.file import LEDGER
from tests.privacy.ledgers import fill

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    folder = tmp_path_factory.mktemp("ledger")
    fill(folder, rounds=1)
    return parse((folder / LEDGER).read_bytes(), folder / LEDGER)[0]


def changed(entry: Entry, **body: Any) -> Entry:
    return Entry(**{**vars(entry), "body": {**entry.body, **body}})


def test_whole_entries_are_read(entries: list[Entry]) -> None:
    account = Account(entries, Path("ledger"))
    assert (account.constants.site, len(account.charges)) == ("munich", 1)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_foreign_content_is_taken_up_or_refused(entries: list[Entry], data: st.DataObject) -> None:
    """Whatever stands in place of a value, an entry is taken up or refused by a `DataError`."""
    number = data.draw(st.integers(0, len(entries) - 1))
    name = data.draw(st.sampled_from(sorted(entries[number].body)))
    value = data.draw(json_values)
    foreign = [*entries[:number], changed(entries[number], **{name: value})]
    with suppress(DataError):
        account = Account(foreign, Path("ledger"))
        json.dumps(str((account.constants, account.versions, account.charges)))


def test_unknown_keys_kinds_and_places_are_refused(entries: list[Entry]) -> None:
    first, data, charge = entries
    for foreign in (
        [first, changed(data, more=1)],
        [first, first],
        [data],
        [first, charge],
        [first, data, changed(charge, event={"kind": "laplace"})],
        [changed(first, format=3)],
        [changed(first, format=1)],  # has no share for whole runs
        [changed(first, runs=0.9)],  # shares sum to more than 1
        [changed(first, unit="scan")],
        [changed(first, shares=[1.0])],
    ):
        with pytest.raises(DataError, match="use the version of primia that wrote it"):
            Account(foreign, Path("ledger"))
    assert set(KINDS) == {"opened", "data", "planned", "charge", "repaired"}


def test_empty_account_has_no_constants() -> None:
    with pytest.raises(DataError, match="is empty"):
        Account([], Path("ledger")).constants  # noqa: B018
