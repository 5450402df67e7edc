"""Megabytes and seconds of installing a checkout into a fresh environment, and what is largest.

    python -m primia_bench.training.install_size --output benchmarks/results/install_size.json \
        --checkout before=/tmp/old --checkout after=. --checkout 'after, everything=.[all,dev]'

Each is installed twice, in turns, into an environment that is deleted afterwards; the second time
counts, with all packages in the cache of pip. Seconds of the processor are those of `venv` and
pip; on a busy machine they say more than the clock's.
"""

import argparse
import json
import resource
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
    started, used = time.monotonic(), _processor_seconds()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", target]
    subprocess.run(command, check=True)
    seconds, used = time.monotonic() - started, _processor_seconds() - used
    printed = subprocess.run([python, "-c", _SIZES], check=True, capture_output=True).stdout
    sizes = {k: v for k, v in json.loads(printed).items() if k not in ("pip", "setuptools")}
    megabytes = {k: round(v / 1e6, 1) for k, v in sorted(sizes.items(), key=lambda i: -i[1])}
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),
        "megabytes": round(sum(sizes.values()) / 1e6),
        "packages": len(sizes),
        "largest_megabytes": dict(list(megabytes.items())[:20]),
        "names": sorted(sizes, key=str.lower),
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(targets: dict[str, str]) -> list[dict[str, Any]]:
    """Install each target twice, in turns; return the second measurements."""
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(2):
        for name, target in targets.items():
            folder = Path(tempfile.mkdtemp(prefix="install-size-"))
            try:
                rows[name] = {"name": name, "extras": target.partition("[")[2].rstrip("]")}
                rows[name] |= install(target, folder / "venv")
            finally:
                shutil.rmtree(folder)
    return list(rows.values())


def main() -> None:
    """Measure every checkout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--checkout", action="append", required=True, metavar="NAME=FOLDER[EXTRAS]")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    targets: dict[str, str] = {}
    for asked in arguments.checkout:
        name, _, target = asked.partition("=")
        path, bracket, extras = target.partition("[")
        targets[name] = f"{Path(path).resolve()}{bracket}{extras}"
    rows = measure(targets)
    document = {"benchmark": "install_size", "machine": describe_machine(), "installs": rows}
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
