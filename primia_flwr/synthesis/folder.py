"""What is released: class folders of images, a manifest, the generator, and a card of all of it.

The folder is there whole or not at all. `data=folder` reads its classes, `data=manifest` its
`manifest.csv`; a file marks it as made by a generator.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save as save_tensors

from primia_flwr import __version__
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.data.reading.common import note_generated, split_of
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.storage.atomic import atomic_folder, writing
from primia_flwr.synthesis.adversarial import draw_images
from primia_flwr.synthesis.networks import Generator
from primia_flwr.synthesis.release import State

CARD, GENERATOR, TABLE = "synthesis.json", "generator.safetensors", "manifest.csv"
_LONGEST = 100


@dataclass(frozen=True)
class Written:
    """The folder, absolute; the SHA-256 of its generator; its number of images."""

    folder: Path
    sha256: str
    images: int


def check_output(output: str, *, root: str) -> Path:
    """Return the folder to write, absolute.

    Raises
    ------
    ConfigError
        If it is empty, is there already, or lies in the folder of the patients' images.
    """
    if not output:
        raise ConfigError("output is empty; expected a new folder, e.g. output=synthetic")
    target = Path(output).expanduser().resolve()
    if root and Path(root).expanduser().resolve() in (target, *target.parents):
        raise ConfigError(
            f"output={output} lies in data.root={root}; expected a folder outside of it, or they "
            "would be read as patients' images"
        )
    if os.path.lexists(target):
        raise ConfigError(f"output={output} exists; expected a new folder: nothing is replaced")
    return target


def check_class_names(classes: Sequence[str]) -> None:
    """Refuse names of classes that are no names of folders, or mean a part of a data set.

    Raises
    ------
    ConfigError
        Naming the first.
    """
    for name in classes:
        plain = not set(name) & set('/\\:*?"<>|\0') and name == name.strip(" .")
        if not plain or not 0 < len(name.encode()) <= _LONGEST or split_of(name):
            raise ConfigError(
                f"data.classes names {name!r:.80}; expected names that folders can have, and not "
                "train, val or test: rename the class"
            )


def write_folder(
    target: Path,
    state: State,
    generator: Generator,
    classes: Sequence[str],
    counts: Sequence[int],
    *,
    seed: int,
    facts: dict[str, Any],
) -> Written:
    """Draw the images and write the folder.

    Parameters
    ----------
    target : Path
        It must not exist.
    state, generator
        The weights that were paid for, and the net that takes them.
    classes, counts
        Names, and how many images of each: chosen by the user, never counted in the data.
    seed : int
        Of the images; the same generator and seed give the same ones.
    facts : dict
        Of the card: privacy, ledger, settings.

    Raises
    ------
    DataError
        If it cannot be written; nothing is left behind.
    """
    generator.load_state_dict(state)
    generator.eval()
    content = save_tensors(state)
    digest = hashlib.sha256(content).hexdigest()
    remedy = "expected a writable place for a new folder; run the same command again, at no cost"
    with (
        writing(target, error=DataError, remedy=remedy),
        atomic_folder(target, mode=0o700) as draft,
    ):
        samples = _write_images(draft, generator, classes, counts, seed)
        Manifest(draft, tuple(classes), tuple(samples)).write_csv(draft / TABLE)
        (draft / GENERATOR).write_bytes(content)
        card = _card(classes, counts, seed, digest, facts)
        (draft / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        note_generated(draft)
    return Written(target, digest, len(samples))


def _write_images(
    folder: Path, generator: Generator, classes: Sequence[str], counts: Sequence[int], seed: int
) -> list[Sample]:
    for name in classes:
        (folder / name).mkdir()
    samples: list[Sample] = []
    for label, pixels in draw_images(generator, counts, seed=seed):
        number = f"synthetic-{len(samples) + 1:06d}"
        path = f"{classes[label]}/{number}.png"
        Image.fromarray(pixels).save(folder / path)
        samples.append(Sample(path, label, number))
    return samples


def _card(
    classes: Sequence[str], counts: Sequence[int], seed: int, digest: str, facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        "synthetic": True,
        "images": dict(zip(classes, counts, strict=True)),
        "seed": seed,
        "generator_sha256": digest,
        **facts,
        "primia_flwr": __version__,
    }
