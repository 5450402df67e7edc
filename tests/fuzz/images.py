"""Change sound image files and decode them: each is shown or refused, and no process ends.

    python -m tests.fuzz.images --files 20000 --output benchmarks/results/fuzz_images.json
    python -m tests.fuzz.images --only 1234        # one of them again, with its traceback

A finding is an end of the process that decodes, any exception but `DataError`, a refusal that is
no line which a terminal can show, or more than `MAX_SECONDS`. The file of number N is the same
for the same seed, whatever happened to those before it.
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from primia_bench.machine import describe_machine, publish

from primia_flwr.data.files.dicom import read_patient
from primia_flwr.data.files.images import decode, depth_is_guessed, shorter_side
from primia_flwr.errors import DataError
from tests.fuzz.image_seeds import seeds
from tests.fuzz.loaders.changes import Changer
from tests.fuzz.loaders.discovery import ROOT

MAX_SECONDS = 20
NUMBERS = (0, 1, 2, 7, 255, 256, 4095, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
VRS = [b"US", b"SS", b"DS", b"IS", b"LO", b"SQ", b"UN", b"OW", b"OB", b"FD", b"U\x92", b"\0\0"]
TEXTS = [
    b"1\\2",
    b"one",
    b"-1",
    b"1e999",
    b"nan",
    b"0",
    b"",
    b"\xff",
    b"9" * 16,
    b"0.0\\x",
    b"1500 HU",
]
TAGS = [
    struct.pack("<HH", 0x0028, number)
    for number in (
        0x02, 0x04, 0x06, 0x08, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103, 0x120, 0x1050, 0x1051,
        0x1052, 0x1053, 0x1056, 0x1101, 0x1201, 0x3000, 0x3002, 0x3006, 0x3010,
    )
]  # fmt: skip
TAGS += [b"\x02\0\x10\0", b"\x10\0\x20\0", b"\xe0\x7f\x10\0", b"\xfe\xff\0\xe0"]


def changed(number: int, seed: int, among: dict[str, bytes]) -> tuple[str, bytes]:
    """Return the name of a sound file and its bytes after a few changes."""
    draw = random.Random(f"{seed}/{number}")
    name = draw.choice(list(among))
    raw = among[name]
    for _ in range(draw.choice((1, 1, 2, 4))):
        way = draw.random()
        if way < 0.2:
            raw = Changer(draw)._bytes(raw)
        elif way < 0.4:
            raw = _flipped(draw, raw, since=draw.choice((0, len(raw) // 3)))
        else:
            raw = _in_place(draw, raw)
    if raw[:4] == b"\x89PNG" and draw.random() < 0.8:
        raw = _with_checksums(raw)
    return name, raw


def _flipped(draw: random.Random, raw: bytes, *, since: int) -> bytes:
    """Flip bits anywhere, or behind what may be the header."""
    content = bytearray(raw)
    for _ in range(draw.choice((1, 3, 20)) if len(content) > since else 0):
        content[draw.randrange(since, len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _in_place(draw: random.Random, raw: bytes) -> bytes:
    """Change an element of a DICOM header, or a number at any place of another file."""
    content = bytearray(raw)
    tag = draw.choice(TAGS)
    places = [at for order in (tag, tag[1::-1] + tag[:1:-1]) if (at := raw.find(order)) >= 0]
    at = draw.choice(places) + 4 if places else draw.randrange(max(1, len(raw)))
    kind = draw.randrange(4)
    if kind == 0:
        content[at : at + 2] = draw.choice(VRS)
    elif kind == 1:
        content[at + 4 : at + 4 + 8] = draw.choice(TEXTS).ljust(8)
    else:
        size = draw.choice((1, 2, 4))
        number = draw.choice(NUMBERS) & (256**size - 1)
        at += draw.choice((0, 2, 4, 8))
        content[at : at + size] = number.to_bytes(size, draw.choice(("little", "big")))
    return bytes(content)


def _with_checksums(raw: bytes) -> bytes:
    """Make the checksums of a PNG's chunks fit again."""
    found, at = bytearray(raw[:8]), 8
    while at + 12 <= len(raw):
        (length,) = struct.unpack_from(">L", raw, at)
        named = raw[at + 4 : at + 8 + length]
        found += raw[at : at + 4] + named + struct.pack(">L", zlib.crc32(named))
        at += 12 + length
    return bytes(found) + raw[at:]


def outcome(path: Path) -> str:
    """Decode a file in every way; say what came of it, or `finding: …`."""
    began = time.monotonic()
    try:
        read_patient(path)
        depth_is_guessed(path)
        pixels = decode(path, at_least=8)
        assert pixels.dtype == np.uint8
        assert shorter_side(path, pixels) > 0
        found = "decoded"
    except DataError as error:
        text = str(error)
        found = "decoder died" if "its decoder died" in text else "refused"
        if "was not decoded within" in text:
            found = "decoder took too long"
        if not text.isprintable() or len(text) > 1000 or str(path) not in text:
            found = f"finding: {text[:300]!r}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        found = f"finding: {type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
    took = time.monotonic() - began
    return found if took < MAX_SECONDS else f"finding: took {took:.0f} s"


def work(first: int, until: int, seed: int, folder: Path) -> None:
    """Feed files one after another; the log has a line before and after each."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    among, path = seeds(), folder / "changed"
    with (folder / "log").open("a", encoding="utf-8", buffering=1) as log:
        for number in range(first, until):
            name, raw = changed(number, seed, among)
            path.write_bytes(raw)
            log.write(f"{number}\t{name}\t")
            log.write(f"{outcome(path)}\n")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        log.write(f"peak\t{peak}\n")


def run(files: int, seed: int, folder: Path) -> dict[str, Any]:
    """Feed so many files in another process, started again where one ends it."""
    counts, findings, died, peak, first = Counter[str](), list[str](), list[str](), 0, 0
    while first < files:
        log = folder / "log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.fuzz.images", "--seed", str(seed)]
        command += ["--worker", str(folder), "--range", str(first), str(files)]
        ended = subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        if not log.exists():
            raise RuntimeError(f"the process that decodes ended with {ended.returncode} at once")
        for line in log.read_text(encoding="utf-8").splitlines():
            number, name, *rest = line.split("\t")
            if number == "peak":
                peak, first = max(peak, int(name)), files
                continue
            what = rest[0] if rest and rest[0] else f"finding: process ended ({ended.returncode})"
            counts[what.partition(":")[0]] += 1
            first = int(number) + 1
            if what.startswith(("finding", "decoder")):
                where = findings if what.startswith("finding") else died
                where.append(f"{number} ({name}): {what}")
    return {"counts": dict(counts), "findings": findings, "decoders": died, "peak_mib": peak}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="decode the file of this number alone")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--range", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(*args.range, args.seed, args.worker)
        return 0
    with tempfile.TemporaryDirectory(prefix="fuzz-images-") as name:
        folder = Path(name)
        if args.only is not None:
            kind, raw = changed(args.only, args.seed, seeds())
            (folder / "changed").write_bytes(raw)
            sys.stdout.write(f"{kind}: {decode(folder / 'changed').shape}\n")
            return 0
        began = time.monotonic()
        result = run(args.files, args.seed, folder)
    figures = {
        "benchmark": "fuzz_images",
        "settings": {"files": args.files, "seed": args.seed, "sound_files": len(seeds())},
        **result,
        "seconds": round(time.monotonic() - began, 1),
        "machine": describe_machine(),
    }
    publish(figures, args.output)
    return int(bool(result["findings"]))


if __name__ == "__main__":
    sys.exit(main())
