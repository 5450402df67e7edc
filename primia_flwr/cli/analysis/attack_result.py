"""What `primia attack` writes and shows: figures, pictures, a page, tables."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console


@dataclass(frozen=True)
class Given:
    """Networks whose weights were given."""

    lpips: Any = None
    inception: Any = None


def given_networks(lpips: str, inception: str, image_size: int) -> Given:
    """Load the networks of which the user gave weights; empty paths: none."""
    if not (lpips or inception):
        return Given()
    from primia_flwr.attacks.inversion.scoring.given_networks import InceptionFeatures, lpips_of

    return Given(
        lpips_of(Path(lpips).expanduser(), image_size=image_size) if lpips else None,
        InceptionFeatures(Path(inception).expanduser()) if inception else None,
    )


def write(folder: Path, result: dict[str, Any], pairs: Sequence[Any], picture: bytes) -> None:
    """Write pictures, images and page, and attack.json last: with it the attack is complete."""
    import torch
    from safetensors.torch import save

    from primia_flwr.attacks.inversion.page import page
    from primia_flwr.storage.atomic import PRIVATE, make_folder, write_atomic

    images = {
        "reconstructions": torch.stack([p.reconstruction for p in pairs]),
        "originals": torch.stack([p.original for p in pairs]),
    }
    make_folder(folder)
    write_atomic(folder / "grid.png", picture, mode=PRIVATE)
    write_atomic(folder / "reconstructions.safetensors", save(images), mode=PRIVATE)
    write_atomic(folder / "attack.html", page(result, picture), mode=PRIVATE)
    write_atomic(folder / "attack.json", json.dumps(result, indent=1) + "\n", mode=PRIVATE)


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    return table


def show(result: dict[str, Any], *, quiet: bool) -> None:
    """Print the tables, and where the pictures are."""
    from primia_flwr.attacks.inversion.page import rows_of, sums_rows, tests_rows

    console = Console(stderr=quiet, emoji=False)
    kind = "synthetic images" if result["synthetic"] else "images"
    for title, (heads, rows) in (
        ("opened sums: how near are they to one image's gradient?", sums_rows(result)),
        (f"{result['target']}: reconstructions of {kind}", rows_of(result)),
        ("SSIM against the control (one-sided for greater)", tests_rows(result)),
    ):
        if rows and not quiet:
            console.print(_table(title, heads, rows))
    console.print(f"pictures: {result['output']}/grid.png", markup=False, soft_wrap=True)
