"""The table of rooms, on numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.coverage_rooms import by_room, percent, room_of, table


def summary(lines: int, ran: int, branches: int = 0, taken: int = 0) -> dict[str, Any]:
    return {
        "summary": {
            "num_statements": lines,
            "covered_lines": ran,
            "num_branches": branches,
            "covered_branches": taken,
            "percent_covered": 1.5,
        }
    }


FILES = {
    "primia_flwr/secagg/protocol/graph.py": summary(60, 60, 20, 10),
    "primia_flwr/secagg/state/vault.py": summary(20, 10),
    "clients/client_app.py": summary(10, 10),
}


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("primia_flwr/secagg/protocol/graph.py", "primia_flwr/secagg"),
        ("primia_flwr/errors.py", "primia_flwr"),
        ("clients/mods/dp.py", "clients/mods"),
    ],
)
def test_a_file_lies_in_a_room(path: str, room: str) -> None:
    assert room_of(path) == room


def test_rooms_are_added_up_and_low_ones_named() -> None:
    rooms = by_room(FILES)
    assert percent(rooms["primia_flwr/secagg"]) == 80.0  # (70 + 10) of (80 + 20)
    assert percent(rooms["clients"]) == 100.0
    assert table(rooms)[-1] == "below 85 %: primia_flwr/secagg"
    assert table({"clients": rooms["clients"]})[-1] == "below 85 %: none"
