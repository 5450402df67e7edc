"""Describe the machine that a measurement ran on, so that its numbers can be read later."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from primia_flwr.compat import torchvision


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, GPU and versions; nothing that names the machine."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": gpu,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def publish(result: dict[str, Any], output: str) -> None:
    """Print a result as JSON and, if `output` is a path, write it there too."""
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    save(result, output)


def save(result: dict[str, Any], output: str) -> None:
    """Write a result as JSON, if `output` is a path: while more is still being measured."""
    if output:
        path = Path(output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
