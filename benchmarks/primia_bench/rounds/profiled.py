"""Where the processor's time of a run goes: all its Python processes, by part.

    python -m primia_bench.rounds.profiled --kind simulation --sites 5 --rounds 6
    python -m primia_bench.rounds.profiled --kind supernodes --sites 3 --rounds 4 --secure

The run is that of `primia train` or `primia federation trial`, in an environment that starts
`sampler` in every process. Time belongs to the part of its innermost frame that the table below
knows. Seconds are those of all cores together, of the whole run: its start and its report included,
Ray's processes that are not Python left out. (py-spy was tried first: it did not see Ray's actors,
and took sleeping threads for busy ones.)
"""

import argparse
import functools
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_bench.rounds.small_runs import RoundCosts, overrides
from primia_flwr.processes.programs import make_stand_in

COMMANDS = {"simulation": ["train"], "supernodes": ["federation", "trial"]}
NATIVE = "threads of libraries, and the sampler"
ROOT = Path(__file__).resolve().parents[3]
_Table = tuple[tuple[str, str], ...]
Sampled = tuple[str, float, dict[str, float]]  # command, processor seconds, seconds by stack

# A part, and what a frame of it has in `function (file:line)`. The first row that fits counts.
PARTS = (
    ("imports", r"importlib|<frozen"),
    ("model built", r"models/(registry|architectures|layers)|pipeline/first_model"),
    ("model taken in", r"models/arrival|load_arrays"),
    ("snapshot and state", r"_snapshot|cpu_copy|_check_weights|clients/site/state"),
    ("validation", r"training/evaluate"),
    ("training", r"primia_flwr/training"),
    ("site opened", r"clients/site/opened|primia_flwr/data"),
    ("configuration", r"primia_flwr/config|omegaconf|hydra|yaml"),
    ("masks and protocol", r"primia_flwr/secagg|clients/mods/secagg|aggregators/secure"),
    ("arrays packed and read", r"primia_flwr/messages|mods/packing|flwr/.*array"),
    ("checkpoint", r"runs/checkpoint"),
    ("rule and record", r"strategies/|primia_flwr/runs"),
    ("report and test", r"reporting|pipeline|evaluation|matplotlib"),
    ("bundle", r"site/bundle|flower/bundle|flwr/cli"),
    ("database", r"sqlite|sqlalchemy|linkstate|objectstore|corestate"),
    ("HTTP and TLS", r"http|uvicorn|starlette|anyio|asyncio|ssl\.py|grpc|requests"),
    ("messages stored and fetched", r"flwr/.*(inflatable|serde|message|record)|google/protobuf"),
    ("Ray", r"\bray/"),
    ("Flower, the rest", r"flwr/"),
    ("product, the rest", r"primia_flwr/|clients/"),
)
PROCESSES = (
    ("sites' messages", r"ray::ClientAppActor|forkserver|flwr-clientapp|clientapp|site\.executor"),
    ("coordinator's app", r"flwr-serverapp|serverapp|flwr-simulation"),
    ("SuperLink", r"superlink"),
    ("SuperExec", r"superexec"),
    ("site", r"site\.run|supernode"),
    ("Ray", r"ray|gcs_server|dashboard"),
    ("launcher", r"primia_flwr\.cli"),
    ("log", r"flwr log|flwr\b.*log"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", choices=COMMANDS, default="simulation")
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--raw", default="", help="also keep the stacks in this file")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
        costs, found = _profile(args, Path(folder))
    if args.raw:
        Path(args.raw).write_text(json.dumps(found), encoding="utf-8")
    publish(
        {
            "benchmark": "profiled",
            "settings": {k: v for k, v in vars(args).items() if k not in ("output", "raw")},
            "median_round_seconds": sorted(costs.seconds)[len(costs.seconds) // 2],
            **shares(found),
            "machine": describe_machine(),
        },
        args.output,
    )


def _profile(args: argparse.Namespace, folder: Path) -> tuple[RoundCosts, list[Sampled]]:
    samples = folder / "samples"
    samples.mkdir()
    python = _environment(folder / "environment", samples)
    given = overrides(
        folder / "run", sites=args.sites, rounds=args.rounds, secure=args.secure, model=args.model
    )
    command = [str(python), "-m", "primia_flwr.cli.main", *COMMANDS[args.kind], *given]
    done = subprocess.run(command, check=False, stdout=sys.stderr, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"the profiled run failed ({done.returncode}); see what it has said above")
    found = [json.loads(path.read_text()) for path in samples.glob("*.json")]
    return RoundCosts.read(folder / "run", sites=args.sites), found


def _environment(folder: Path, samples: Path) -> Path:
    """Make an environment like this one that samples each of its processes; return its Python."""
    folder.mkdir()
    programs = make_stand_in(Path(sysconfig.get_path("scripts")), folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    shutil.copy(Path(__file__).with_name("sampler.py"), packages / "primia_sampler.py")
    begin = f"import primia_sampler; primia_sampler.start({str(samples)!r})\n"
    (packages / "primia_sampler.pth").write_text(begin)
    return programs / "python"


def shares(processes: Sequence[Sampled]) -> dict[str, Any]:
    """Return the seconds by part and by kind of process, largest first."""
    parts, each = Counter[str](), dict[str, Counter[str]]()
    for command, total, stacks in processes:
        found = Counter[str]()
        booked = {s: n for s, n in stacks.items() if "primia_sampler" not in s}
        scale = 1000 * min(1.0, total / max(sum(booked.values()), 1e-9))
        for stack, seconds in booked.items():
            found[_first(PARTS, reversed(stack.split(";")))] += round(scale * seconds)
        found[NATIVE] += max(round(1000 * total) - found.total(), 0)
        parts += found
        each.setdefault(_first(PROCESSES, [command]), Counter()).update(found)
    whole = parts.total()
    kinds = sorted(each.items(), key=lambda kind: -kind[1].total())
    return {
        "processor_seconds": round(sum(total for _, total, _ in processes), 2),
        "parts": _rows(parts, whole),
        "processes": {
            name: {"seconds": n.total() / 1000, "parts": _rows(n, whole)} for name, n in kinds
        },
    }


def _first(table: _Table, frames: Iterable[str]) -> str:
    return next(filter(None, (_fitting(table, frame) for frame in frames)), "the rest")


@functools.cache
def _fitting(table: _Table, frame: str) -> str:
    return next((name for name, pattern in table if re.search(pattern, frame)), "")


def _rows(found: Mapping[str, int], whole: int) -> dict[str, dict[str, float]]:
    rows = sorted(found.items(), key=lambda row: -row[1])
    return {
        name: {"seconds": n / 1000, "share": round(n / whole, 3)}
        for name, n in rows
        if n / whole >= 0.001
    }


if __name__ == "__main__":
    main()
