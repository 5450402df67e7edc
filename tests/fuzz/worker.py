"""One process that feeds the targets until it is stopped; `fuzz_wire` starts it.

    python -m tests.fuzz.worker FOLDER [options of libFuzzer]

The first byte of an input says for which target the rest is. FOLDER gets `corpus`, with the
seeds; `counts`: how many inputs each target was given and how many of them it accepted; and
TARGET.bytes, if some break that target.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["primia_flwr"]):
    from tests.fuzz.mutation import Mutator
    from tests.fuzz.targets import TARGETS, seeds

NAMES = tuple(TARGETS)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    draw = random.Random(seed)
    if not data or draw.random() < 0.05:
        return bytes(atheris.Mutate(data, max_size))
    mutator = Mutator(draw, lambda raw: bytes(atheris.Mutate(raw, len(raw) + 8)))
    return (data[:1] + mutator.change(data[1:]))[:max_size]


def main(folder: Path, options: list[str]) -> None:
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, (name, raw) in enumerate(seeds()):
        (corpus / f"seed-{number:03d}").write_bytes(bytes([NAMES.index(name)]) + raw)
    counts = np.memmap(folder / "counts", np.uint64, "w+", shape=(len(NAMES), 2))

    def feed(data: bytes) -> None:
        index = data[0] % len(NAMES) if data else 0
        counts[index, 0] += 1
        try:
            counts[index, 1] += TARGETS[NAMES[index]](data[1:])
        except Exception:
            (folder / f"{NAMES[index]}.bytes").write_bytes(data[1:])
            raise

    atheris.Setup([sys.argv[0], *options, str(corpus)], feed, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
