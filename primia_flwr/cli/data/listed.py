"""Problems of images on a terminal: how many, and the first of them by name."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from primia_flwr.storage.printable import printable


def show_list(console: Console, title: str, lines: Sequence[str], limit: int) -> None:
    """Print a problem's title and at most `limit` of its lines; nothing where it has none."""
    if not lines:
        return
    console.print(f"[bold]{title}[/]: {len(lines)}")
    for line in lines[:limit]:
        console.print(f"  {escape(printable(line, limit=2000))}", soft_wrap=True)
    if len(lines) > limit:
        console.print(f"  … and {len(lines) - limit} more (limit={len(lines)} shows all)")
