"""Megabytes and seconds of installing a checkout into a fresh environment, and what is largest.

    python -m primia_bench.training.install_size --output benchmarks/results/install_size.json \
        --checkout before=/tmp/old --checkout after=. --checkout 'after, everything=.[all,dev]'

Each is installed twice, each time into a new environment; the second time counts, with all
packages in pip's cache. The environment is deleted afterwards.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish

_SIZES = """
import json
from importlib.metadata import distributions
sizes = {}
for found in distributions():
    files = (found.locate_file(file) for file in found.files or ())
    sizes[found.name] = sum(file.stat().st_size for file in files if file.is_file())
print(json.dumps(sizes))
"""


def install(target: str, folder: Path) -> dict[str, Any]:
    """Install `target` (a path, perhaps with [extras]); return seconds, megabytes, packages.

    Bytes are those of the packages' files, compiled ones included, without pip's own.
    """
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", target]
    subprocess.run(command, check=True)
    seconds = time.monotonic() - started
    printed = subprocess.run([python, "-c", _SIZES], check=True, capture_output=True).stdout
    sizes = {k: v for k, v in json.loads(printed).items() if k not in ("pip", "setuptools")}
    megabytes = {k: round(v / 1e6, 1) for k, v in sorted(sizes.items(), key=lambda i: -i[1])}
    return {
        "seconds": round(seconds, 1),
        "megabytes": round(sum(sizes.values()) / 1e6),
        "packages": len(sizes),
        "largest_megabytes": dict(list(megabytes.items())[:20]),
        "names": sorted(sizes, key=str.lower),
    }


def measure(name: str, target: str) -> dict[str, Any]:
    """Install twice; return the second measurement, and what the first took."""
    taken: list[dict[str, Any]] = []
    for _ in range(2):
        folder = Path(tempfile.mkdtemp(prefix="install-size-"))
        try:
            taken.append(install(target, folder / "venv"))
        finally:
            shutil.rmtree(folder)
    extras = target.partition("[")[2].rstrip("]")
    return {"name": name, "extras": extras, **taken[1], "first_seconds": taken[0]["seconds"]}


def main() -> None:
    """Measure every checkout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--checkout", action="append", required=True, metavar="NAME=FOLDER[EXTRAS]")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for asked in arguments.checkout:
        name, _, target = asked.partition("=")
        path, bracket, extras = target.partition("[")
        rows.append(measure(name, f"{Path(path).resolve()}{bracket}{extras}"))
        print(json.dumps({k: v for k, v in rows[-1].items() if k != "names"}), file=sys.stderr)
    document = {"benchmark": "install_size", "machine": describe_machine(), "installs": rows}
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
