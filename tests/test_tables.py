"""The tables of a comparison as a terminal shows them."""

from __future__ import annotations

import io

from rich.console import Console

from primia_flwr.tables import NUMBER, TEXT, Sheet


def test_long_names_are_folded_and_not_cut_to_the_same_beginning() -> None:
    names = ["2026-11-25-00-45-12-pneumonia-secure", "2026-11-25-00-45-12-pneumonia-plain"]
    columns = (("Reader", "reader", TEXT), ("MCC", "mcc", NUMBER))
    sheet = Sheet("figures", "Each", columns, [(name, 0.5) for name in names])
    stream = io.StringIO()
    Console(file=stream, width=24).print(sheet.to_rich())
    shown = "".join(
        line.split("│")[1].strip() for line in stream.getvalue().splitlines() if "│" in line
    )
    for name in names:
        assert name in shown
