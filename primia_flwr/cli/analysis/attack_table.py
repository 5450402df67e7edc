"""What an attack whose result is one table shows on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table


def show(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    answer: str,
    folder: Path,
) -> None:
    """Print the table, what it comes to, and where the files are."""
    table = Table()
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(answer, markup=False, soft_wrap=True)
    console.print(f"written: {folder}", markup=False, soft_wrap=True)
